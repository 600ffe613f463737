#pragma once
// Between the run and its checkpoints: what a checkpoint says of the run, and loading one into the ranks.

#include <string>
#include <vector>

#include "io/checkpoint_reader.h"
#include "io/checkpoint_shard.h"
#include "io/tokenizer.h"
#include "launch/console.h"
#include "launch/session.h"
#include "parallel/optimizer.h"

namespace foretoken {

/// The MTP switches of the run's kind as a checkpoint states them, `repeat` where it is true.
std::map<std::string, std::string> conventions_of(const Config& config);

/// The objective goes on with the weights that it had at the checkpoint, where the run balances them still.
void restore_objective(Objective& objective, const CheckpointInfo& info, const Config& config);

/// What the optimizer gives to save, as the writer takes it.
std::vector<CheckpointPiece> checkpoint_pieces(const std::vector<StatePiece>& pieces);

/// Fills `pieces` on every rank from the newest checkpoint at `path` (a run or a checkpoint) that holds, and
/// returns what it says. One that is damaged is named and the one before it taken, until none is left: a
/// DataError. One with other conventions is a UsageError; with another tokenizer than `tokenizer`
/// (to_string(identity)), a DataError. Collective.
CheckpointInfo load_checkpoint(const std::string& path, const Config& config, const std::string& tokenizer,
                               const std::vector<StatePiece>& pieces, Stream& stream, Communicator& world,
                               Console& console);

/// Gives a new run the weights of the newest checkpoint at `path` that holds: the main model's and, where its
/// conventions are the run's in all but the depths, those of the heads that it has; other heads keep what
/// they were drawn with. Says which. Errors as above, but for conventions. Collective.
void load_weights(const std::string& path, const Config& config, const std::string& tokenizer,
                  Parameters& parameters, Stream& stream, Communicator& world, Console& console);

}  // namespace foretoken

#pragma once
// Between the run and its checkpoints: what a checkpoint says of the run, and loading one into the ranks.

#include <functional>
#include <string>
#include <vector>

#include "io/checkpoint_reader.h"
#include "io/checkpoint_shard.h"
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

/// A parameter of this rank as a checkpoint holds its value.
StatePiece weight_piece(const Parameters& parameters, const ParameterSpec& spec);
/// All of them.
std::vector<StatePiece> weight_pieces(const Parameters& parameters);

/// The newest checkpoint at `path` whose manifest can be read: it says what model to build. What loads from
/// there names those that are passed over. Lists again where one was retired meanwhile. A DataError where
/// there is none.
Checkpoint newest_readable(const std::string& path);

/// The settings that a checkpoint was trained with.
Config settings_of(const Checkpoint& checkpoint);

/// A DataError where the checkpoint's tokens are not those of `tokenizer` (to_string(identity)).
void require_same_tokenizer(const Checkpoint& checkpoint, const std::string& tokenizer);

/// Reads what `pieces_of` asks of a checkpoint, from the newest one at `path` (a run or a checkpoint) that
/// holds, and returns it. One that is damaged is named and the one before it taken, until none is left: a
/// DataError. Where one was retired while it was read, the newest ones are listed again. What `pieces_of`
/// throws is a fault of the request, for which no older checkpoint would be better. Collective.
using PiecesOf = std::function<std::vector<StatePiece>(const Checkpoint& checkpoint)>;
Checkpoint load_newest(const std::string& path, const PiecesOf& pieces_of, Stream& stream,
                       Communicator& world, Console& console);

/// load_newest() of all `pieces`. A checkpoint with other conventions is a UsageError; with another
/// tokenizer, a DataError.
Checkpoint load_checkpoint(const std::string& path, const Config& config, const std::string& tokenizer,
                           const std::vector<StatePiece>& pieces, Stream& stream, Communicator& world,
                           Console& console);

}  // namespace foretoken

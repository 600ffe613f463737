#pragma once
// A run and its checkpoints: the information that a checkpoint stores about the run, and loading one into
// the ranks.

#include <functional>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/checkpoint_shard.h"
#include "launch/console/console.h"
#include "launch/session/session.h"
#include "parallel/optimizer/optimizer.h"

namespace foretoken {

/// The MTP switches of the run's kind of heads, as a checkpoint stores them; flags only if they are set.
std::map<std::string, std::string> conventions_of(const Config& config);

/// Restores the objective's dynamic weights from the checkpoint, if the run still balances them.
void restore_objective(Objective& objective, const CheckpointInfo& info, const Config& config);

/// The optimizer's state in the form that the checkpoint writer takes.
std::vector<CheckpointPiece> checkpoint_pieces(const std::vector<StatePiece>& pieces);

/// A parameter of this rank, as a checkpoint stores its value.
StatePiece weight_piece(const Parameters& parameters, const ParameterSpec& spec);
/// All parameters of this rank.
std::vector<StatePiece> weight_pieces(const Parameters& parameters);

/// Returns the newest checkpoint at `path` whose manifest can be read; it determines which model to build.
/// Functions that load from the path later report the checkpoints that are skipped here. Lists the
/// checkpoints again if one of them was retired in the meantime. Throws a DataError if no manifest can be
/// read.
Checkpoint newest_readable(const std::string& path);

/// The settings that the checkpoint was trained with.
Config settings_of(const Checkpoint& checkpoint);

/// Throws a DataError unless the checkpoint was trained with this tokenizer.
void require_same_tokenizer(const Checkpoint& checkpoint, const TokenizerIdentity& tokenizer);

/// Reads the pieces that `pieces_of` requests, from the newest valid checkpoint at `path` (a run or a
/// checkpoint), and returns that checkpoint. A damaged checkpoint is reported and the previous one tried; if
/// none is left, throws a DataError. If a checkpoint was retired while it was read, the newest ones are
/// listed again. An error of `pieces_of` means that the request does not fit the checkpoint; it is thrown,
/// and older checkpoints are not tried. Collective.
using PiecesOf = std::function<std::vector<StatePiece>(const Checkpoint& checkpoint)>;
Checkpoint load_newest(const std::string& path, const PiecesOf& pieces_of, Stream& stream,
                       Communicator& world, Console& console);

/// load_newest() for all `pieces`. Throws a UsageError for a checkpoint with other conventions, a DataError
/// for one with another tokenizer.
Checkpoint load_checkpoint(const std::string& path, const Config& config, const TokenizerIdentity& tokenizer,
                           const std::vector<StatePiece>& pieces, Stream& stream, Communicator& world,
                           Console& console);

}  // namespace foretoken

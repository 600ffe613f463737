#pragma once
// A new run that starts from the weights of another run. Its prediction heads may differ (added, dropped or
// of another kind); the main model must be the same. Only weights are transferred; optimizer, step and
// position in the data start from the beginning. To continue exactly where a run stopped, see
// launch/session/resume.h.

#include <string>
#include <vector>

#include "launch/console/console.h"
#include "launch/session/resume.h"

namespace foretoken {

/// Which tensors are kept, initialized and dropped, in units as model/layout.h names them.
struct Transfer {
  std::vector<ParameterUnit> kept;  // values come from the checkpoint
  // Heads that the checkpoint lacks. They keep their initial values, except copies of tensors of the main
  // model, which come from the checkpoint.
  std::vector<ParameterUnit> drawn;
  std::vector<ParameterUnit> dropped;  // heads that the run does not have
};

/// If the MTP conventions agree in everything but the number of depths, the heads that both sides have are
/// kept. Throws a UsageError if the main models differ in a setting or in a tensor's shape, a DataError if
/// the checkpoint lacks a tensor that it should have or has an unknown one.
Transfer plan_transfer(const Checkpoint& checkpoint, const Config& config);

/// Console lines: kept, drawn and dropped units with their counts, and the names of those that are not kept.
std::string to_string(const Transfer& transfer);

/// Loads the weights of the newest valid checkpoint at `path` (a run or a checkpoint) into a new run, as
/// planned above; drawn units must already be initialized. Returns the console lines that describe the
/// transfer. Throws a DataError unless the checkpoint was trained with `tokenizer`. Collective.
std::string transfer_weights(const std::string& path, const Config& config,
                             const TokenizerIdentity& tokenizer, Parameters& parameters, Stream& stream,
                             Communicator& world, Console& console);

}  // namespace foretoken

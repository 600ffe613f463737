#pragma once
// A new run that starts from the weights of another one, whose prediction heads may be others: heads are
// added, dropped or of another kind, the main model stays what it is. Values alone go over; optimizer, step
// and data begin anew. To go on exactly where a run stopped see launch/resume.h.

#include <string>
#include <vector>

#include "launch/console.h"
#include "launch/resume.h"

namespace foretoken {

/// What becomes of every tensor, in units as model/layout.h names them.
struct Transfer {
  std::vector<ParameterUnit> kept;     // values of the checkpoint
  std::vector<ParameterUnit> drawn;    // heads that it lacks: keep what they were drawn with, but for copies
                                       // of tensors of the main model, which are the checkpoint's
  std::vector<ParameterUnit> dropped;  // heads that the run has no place for
};

/// Heads are kept, as many as both sides have, where the MTP conventions agree in all but the depths. A
/// UsageError where the main models differ: a setting, or a tensor's shape. A DataError where the checkpoint
/// lacks a tensor that it should hold, or has one beyond.
Transfer plan_transfer(const Checkpoint& checkpoint, const Config& config);

/// Lines for people: kept, drawn and dropped with their counts, and the names of those that are not kept.
std::string to_string(const Transfer& transfer);

/// Gives a new run the weights of the newest checkpoint at `path` (a run or a checkpoint) that holds, as
/// planned above; what is drawn must have been. Returns the lines that tell what was done. The tokenizer must
/// be the checkpoint's: a DataError. Collective.
std::string transfer_weights(const std::string& path, const Config& config, const std::string& tokenizer,
                             Parameters& parameters, Stream& stream, Communicator& world, Console& console);

}  // namespace foretoken

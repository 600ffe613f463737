#pragma once
// `foretoken inspect`: prints the contents of a checkpoint or dataset.

#include <ostream>
#include <string>

namespace foretoken {

/// Prints step, position in the data, layout, conventions and a table of tensors. `path` is a checkpoint, or
/// a run or a folder of checkpoints, whose newest is shown (a suspect one only if all are suspect). With
/// `verify`, also checks the checkpoint, or all of the run's checkpoints including abandoned branches, and
/// the run's config.toml, metrics.jsonl and branch.json, and prints what is damaged. `path` may also be a
/// token dataset. Returns the exit code: 3 if `verify` finds damage, otherwise 0. Throws a DataError if the
/// path has no complete checkpoint or, without `verify`, if the one to show cannot be opened.
int inspect(const std::string& path, bool verify, std::ostream& out);

}  // namespace foretoken

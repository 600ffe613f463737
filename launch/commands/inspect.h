#pragma once
// `foretoken inspect`: prints the contents of a checkpoint or dataset.

#include <ostream>
#include <string>

namespace foretoken {

/// Prints step, position in the data, layout, conventions and a table of tensors. `path` is a checkpoint, or
/// a run or a folder of checkpoints, whose newest is shown. With `verify`, also checks every digest and, for
/// a run, config.toml and metrics.jsonl, and prints what differs. `path` may also be a token dataset. Returns
/// the exit code: 3 if a digest differs, otherwise 0. Throws a DataError if no checkpoint can be opened.
int inspect(const std::string& path, bool verify, std::ostream& out);

}  // namespace foretoken

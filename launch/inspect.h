#pragma once
// `foretoken inspect`: what a checkpoint holds, for people.

#include <ostream>
#include <string>

namespace foretoken {

/// Prints step, position in the data, layout, conventions and a table of tensors. `path` is a checkpoint, or
/// a run or a folder of checkpoints, of which the newest is shown. With `verify`, checks every digest and
/// prints those that differ. Returns the exit code: 3 where a digest differs, else 0. A DataError where there
/// is no checkpoint that can be opened.
int inspect(const std::string& path, bool verify, std::ostream& out);

}  // namespace foretoken

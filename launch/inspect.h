#pragma once
// `foretoken inspect`: what a checkpoint or dataset holds, for people.

#include <ostream>
#include <string>

namespace foretoken {

/// Prints step, position in the data, layout, conventions and a table of tensors. `path` is a checkpoint, or
/// a run or a folder of checkpoints, of which the newest is shown. With `verify`, checks every digest, and
/// config.toml and metrics.jsonl of a run, and prints what differs. `path` may also be a token dataset.
/// Returns the exit code: 3 where a digest differs, else 0. A DataError where there is no checkpoint that can
/// be opened.
int inspect(const std::string& path, bool verify, std::ostream& out);

}  // namespace foretoken

#pragma once
// The parts of `foretoken inspect` other than checkpoints: datasets, and the text files of a run.

#include <ostream>
#include <string>
#include <vector>

namespace foretoken {

/// Prints the contents of a token dataset and, with `verify`, whether every byte is unchanged. Returns the
/// exit code: 3 if something is damaged. Throws a DataError if the dataset cannot be opened.
int inspect_dataset(const std::string& path, bool verify, std::ostream& out);

/// Checks a run's config.toml, metrics.jsonl, metrics.jsonl.superseded and branch.json. `run_or_checkpoint`
/// is the run or one of its checkpoints. Returns one message for each damaged file; empty for a checkpoint
/// outside a run.
std::vector<std::string> run_file_errors(const std::string& run_or_checkpoint);

}  // namespace foretoken

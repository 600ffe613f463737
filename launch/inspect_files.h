#pragma once
// What `foretoken inspect` shows and checks beside checkpoints: datasets, and the text files of a run.

#include <ostream>
#include <string>
#include <vector>

namespace foretoken {

/// A token dataset: what it holds and, where `verify` is set, whether every byte is as it was written.
/// Returns the exit code: 3 where something is damaged. DataError where it cannot be opened.
int inspect_dataset(const std::string& path, bool verify, std::ostream& out);

/// What is wrong with config.toml, metrics.jsonl, what of it was superseded, and branch.json of the run that
/// `run_or_checkpoint` is or belongs to, one line each. Nothing for a checkpoint outside of a run.
std::vector<std::string> run_file_faults(const std::string& run_or_checkpoint);

}  // namespace foretoken

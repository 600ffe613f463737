#pragma once
// `foretoken report`: what runs have reported, as one page.

#include <string>
#include <vector>

namespace foretoken {

struct ReportArguments {
  std::string run;                   // RUN, or one of its checkpoints
  std::vector<std::string> compare;  // further runs
  std::string output;                // the page (HTML)
};

/// Writes the page, and prints a line for each thing that a run lacks, which the page also names. Returns the
/// exit code. Throws a DataError if a path is not a run, or if the page cannot be written.
int write_run_page(const ReportArguments& arguments);

}  // namespace foretoken

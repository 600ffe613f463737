#pragma once
// foretoken evaluate: the losses of a checkpoint on a dataset.

#include <cstdint>
#include <string>
#include <vector>

namespace foretoken {

struct EvaluateArguments {
  std::string path;               // run (its newest checkpoint) or checkpoint
  std::string data;               // token dataset
  std::int64_t rows = 0;          // rows of it, 0: all
  std::vector<std::string> sets;  // "section.key=value" over the checkpoint's config, such as parallel.pp=2
};

/// Returns the process's exit code.
int evaluate(const EvaluateArguments& arguments);

}  // namespace foretoken

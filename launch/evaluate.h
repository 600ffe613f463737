#pragma once
// foretoken evaluate: what a checkpoint's model gives on a dataset: losses and perplexities by depth, bits
// per byte, acceptance of the prediction heads' drafts with the text given and free-running
// (launch/free_running.h).

#include <cstdint>
#include <string>
#include <vector>

namespace foretoken {

struct EvaluateArguments {
  std::string path;                // run (its newest checkpoint) or checkpoint
  std::string data;                // token dataset
  std::int64_t rows = 0;           // rows of it, 0: all
  std::int64_t free_running = 64;  // prompts after which text is written with drafts, 0: none
  std::string metrics;             // file that the figures are appended to, as in a run's metrics.jsonl
  std::vector<std::string> sets;   // "section.key=value" over the checkpoint's config, such as parallel.pp=2
};

/// Returns the process's exit code.
int evaluate(const EvaluateArguments& arguments);

}  // namespace foretoken

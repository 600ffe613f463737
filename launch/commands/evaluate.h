#pragma once
// foretoken evaluate: measures a checkpoint's model on a dataset: losses and perplexities by depth, bits per
// byte, and acceptance of the prediction heads' drafts, both teacher-forced, on the dataset's text, and
// free-running (launch/commands/free_running.h).

#include <cstdint>
#include <string>
#include <vector>

namespace foretoken {

struct EvaluateArguments {
  std::string path;                // run (its newest checkpoint) or checkpoint
  std::string data;                // token dataset
  std::int64_t rows = 0;           // rows to evaluate, 0: all
  std::int64_t free_running = 64;  // number of prompts for free-running acceptance, 0: none
  std::string metrics;  // file that the metrics are appended to, in the format of a run's metrics.jsonl
  std::vector<std::string>
      sets;  // "section.key=value", overrides the checkpoint's config, such as parallel.pp=2
};

/// Returns the exit code.
int evaluate(const EvaluateArguments& arguments);

}  // namespace foretoken

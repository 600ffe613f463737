#pragma once
// The command-line arguments of `foretoken train`.

#include <cstdint>
#include <string>
#include <vector>

namespace foretoken {

struct TrainArguments {
  std::string config_path;        // the file from which the config was read; empty: none
  std::vector<std::string> sets;  // section.key=value applied after the file
  std::string from;               // run or checkpoint from which a new run takes its weights and settings
  std::string resume;             // run or checkpoint to continue; empty: a new run
  bool allow_other_data = false;  // a resumed run may use other data than its checkpoint
  std::int64_t stop_after = 0;    // stop at this step with a checkpoint; 0: run to the end
  std::string run_directory;      // folder of a new run; empty: named by run.directory and run.name
  bool auto_resume = false;       // resume run_directory if it has a checkpoint
  bool auto_layout = false;       // sets parallel.elastic
};

}  // namespace foretoken

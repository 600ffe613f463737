#pragma once
// foretoken train: one rank's part of a training run.

#include <cstdint>
#include <string>
#include <vector>

#include "launch/config.h"

namespace foretoken {

struct TrainArguments {
  std::string config_path;        // the file the config came from, empty for none
  std::vector<std::string> sets;  // section.key=value over the file
  std::string from;               // run or checkpoint whose weights and settings a fresh run starts from
  std::string resume;             // run or checkpoint to go on with, empty for a fresh run
  bool allow_other_data = false;  // a resumed run may have other data than its checkpoint
  std::int64_t stop_after = 0;    // stop at this step with a checkpoint, 0: run to the end
  std::string
      run_directory;         // exactly this folder for a fresh run, empty: made of run.directory and run.name
  bool auto_resume = false;  // resume run_directory where it holds a checkpoint
  bool auto_layout = false;  // sets parallel.elastic
};

/// `config` is that of resolve_config() (launch/train_config.h) before the job holds the run's folder.
/// Returns the process's exit code.
int train(const Config& config, const TrainArguments& arguments);

}  // namespace foretoken

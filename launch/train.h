#pragma once
// foretoken train: one rank's part of a training run.

#include <cstdint>
#include <string>

#include "launch/config.h"

namespace foretoken {

struct TrainArguments {
  std::string config_path;        // the file the config came from, empty for none
  std::string resume;             // run or checkpoint to go on with, empty for a fresh run
  bool allow_other_data = false;  // a resumed run may have other data than its checkpoint
  std::int64_t stop_after = 0;    // stop at this step with a checkpoint, 0: run to the end
  std::string
      run_directory;         // exactly this folder for a fresh run, empty: made of run.directory and run.name
  bool auto_resume = false;  // run_directory may be there, as a run without a checkpoint
};

/// Returns the process's exit code.
int train(const Config& config, const TrainArguments& arguments);

}  // namespace foretoken

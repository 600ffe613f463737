#pragma once
// foretoken train: one rank's part of a training run.

#include "launch/config/config.h"
#include "launch/config/train_arguments.h"

namespace foretoken {

/// `config` is what resolve_config() returned (launch/session/train_config.h) before the job holds the run's
/// folder. Returns the exit code.
int train(const Config& config, const TrainArguments& arguments);

}  // namespace foretoken

#pragma once
// The learning-rate schedule of a configuration, and the effect of changed settings on a run that resumes.

#include <cstdint>
#include <string>
#include <vector>

#include "launch/config/config.h"
#include "parallel/optimizer/learning_rate.h"

namespace foretoken {

LearningRate schedule_of(const Config& config);

/// Warnings for a run that continues after `step` with a changed train.steps: no step is left, or the
/// schedule is stretched and the learning rate jumps. Other changed optimizer settings give no warning,
/// because they are deliberate.
std::vector<std::string> resume_warnings(const Config& before, const Config& now, std::int64_t step);

}  // namespace foretoken

#pragma once
// The learning-rate schedule of a configuration, and what changed settings do to a run that resumes.

#include <cstdint>
#include <string>
#include <vector>

#include "launch/config.h"
#include "parallel/learning_rate.h"

namespace foretoken {

LearningRate schedule_of(const Config& config);

/// Warnings for a run that goes on after `step` with another train.steps than before: no step is left, or the
/// schedule stretches and the learning rate jumps. A changed optimizer setting is a choice, not a surprise.
std::vector<std::string> resume_warnings(const Config& before, const Config& now, std::int64_t step);

}  // namespace foretoken

#pragma once
// Metrics of a step with two heads, for tests of what is written and printed.

#include "io/report/metrics.h"

namespace foretoken::testing {

inline StepMetrics example_step(std::int64_t step) {
  return {.step = step,
          .steps = 400,
          .loss = 2.34564,
          .depth_losses = {2.1, 2.4, 2.62},
          .weights = {},
          .grad_norm = 0.84,
          .lr = 3e-4,
          .milliseconds = 182.4,
          .tokens_per_second = 11250.3,
          .seconds_left = 51,
          .tokens_seen = 245760,
          .samples_seen = 1920};
}

}  // namespace foretoken::testing

#include "parallel/optimizer/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/error.h"

namespace foretoken {

void validate(const LearningRate& schedule) {
  using Shape = LearningRate::Shape;
  if (!(schedule.peak > 0) || !std::isfinite(schedule.peak))
    throw UsageError("learning rate: the peak is {}, expected more than 0", schedule.peak);
  if (!(schedule.min_ratio >= 0 && schedule.min_ratio <= 1))
    throw UsageError("learning rate: the floor is {} of the peak, expected 0 to 1", schedule.min_ratio);
  if (schedule.warmup_steps < 0)
    throw UsageError("learning rate: {} warm-up steps, expected 0 or more", schedule.warmup_steps);
  if (schedule.shape != Shape::constant && schedule.decay_steps < 1)
    throw UsageError("learning rate: {} decay steps, expected 1 or more", schedule.decay_steps);
  if (schedule.shape == Shape::wsd && schedule.warmup_steps + schedule.decay_steps > schedule.total_steps)
    throw UsageError("learning rate: {} warm-up and {} decay steps exceed the {} steps of the run",
                     schedule.warmup_steps, schedule.decay_steps, schedule.total_steps);
}

double learning_rate(const LearningRate& schedule, std::int64_t step) {
  const double peak = schedule.peak, floor = schedule.min_ratio * schedule.peak;
  const auto decay = static_cast<double>(schedule.decay_steps);
  if (step <= schedule.warmup_steps)
    return peak * static_cast<double>(step) / static_cast<double>(schedule.warmup_steps);
  switch (schedule.shape) {
    case LearningRate::Shape::constant:
      return peak;
    case LearningRate::Shape::cosine: {
      const double progress = std::min(1.0, static_cast<double>(step - schedule.warmup_steps) / decay);
      return floor + (peak - floor) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
    }
    case LearningRate::Shape::wsd: {
      const std::int64_t stable_until = schedule.total_steps - schedule.decay_steps;
      const double progress = std::clamp(static_cast<double>(step - stable_until) / decay, 0.0, 1.0);
      return peak - (peak - floor) * progress;
    }
  }
  throw DefectError("learning rate: unknown shape {}", static_cast<int>(schedule.shape));
}

}  // namespace foretoken

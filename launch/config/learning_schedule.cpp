#include "launch/config/learning_schedule.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace foretoken {

LearningRate schedule_of(const Config& config) {
  const OptimizerSettings& settings = config.optimizer;
  LearningRate::Shape shape = LearningRate::Shape::constant;
  if (settings.schedule == OptimizerSettings::Schedule::cosine) shape = LearningRate::Shape::cosine;
  if (settings.schedule == OptimizerSettings::Schedule::wsd) shape = LearningRate::Shape::wsd;
  const std::int64_t rest = std::max<std::int64_t>(1, config.train.steps - settings.warmup_steps);
  return {.shape = shape,
          .peak = settings.lr,
          .min_ratio = settings.min_lr_ratio,
          .warmup_steps = settings.warmup_steps,
          .decay_steps = settings.decay_steps > 0 ? settings.decay_steps : rest,
          .total_steps = config.train.steps};
}

std::vector<std::string> resume_warnings(const Config& before, const Config& now, std::int64_t step) {
  std::vector<std::string> warnings;
  if (now.train.steps < step)
    warnings.push_back(
        fmt::format("train.steps is {}, but the checkpoint is at step {}: nothing is left to train",
                    now.train.steps, step));
  if (now.train.steps <= step || now.train.steps == before.train.steps) return warnings;
  Config unstretched = now;
  unstretched.train.steps = before.train.steps;
  const double is = learning_rate(schedule_of(now), step + 1);
  const double was = learning_rate(schedule_of(unstretched), step + 1);
  constexpr double noticed = 0.01;
  if (std::abs(is - was) > noticed * std::max(is, was))
    warnings.push_back(
        fmt::format("train.steps {} instead of {} changes the schedule: the learning rate of step {} is "
                    "{:.2e}, not {:.2e}; set optimizer.decay_steps and optimizer.lr to keep it",
                    now.train.steps, before.train.steps, step + 1, is, was));
  return warnings;
}

}  // namespace foretoken

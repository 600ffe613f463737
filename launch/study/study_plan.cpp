#include "launch/study/study_plan.h"

#include <algorithm>
#include <map>

#include <fmt/ranges.h>

#include "launch/plan/plan_input.h"
#include "launch/plan/plan_text.h"
#include "runtime/backend.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

/// The best layout of a configuration. Throws a UsageError if none is legal or none fits.
PlannedLayout planned_layout(const ScalingStudy& scaling, const Config& config, int ranks) {
  const PlanInput input = plan_input(config, {.device = planned_device(scaling, config),
                                              .profiles = scaling.profiles,
                                              .per_node = scaling.per_node,
                                              .top = 1});
  RanksPlan plan = plan_ranks(input.config, ranks, input.options);
  if (plan.best.empty())
    throw UsageError("plan: no layout of {} ranks fits: {}", ranks,
                     plan.nearest ? too_large_reason(*plan.nearest, input.options.memory.value_or(0)) : "");
  return std::move(plan.best.front());
}

PlannedStep step_of(const PlannedLayout& planned) {
  const StepShares& step = planned.step.step;
  return {.total = 1e3 * planned.step.total,
          .compute = 1e3 * step.compute,
          .bubble = 1e3 * step.bubble,
          .communication = 1e3 * step.communication(),
          .optimizer = 1e3 * step.optimizer,
          .tokens_per_second = planned.tokens_per_second,
          .memory_bytes = planned.memory};
}

/// The configuration with a layout that the planner does not vary.
Config fixed(Config config) {
  for (const char* name : layout_settings) config.origins[name] = "--set " + std::string(name);
  return config;
}

}  // namespace

std::string planned_device(const ScalingStudy& scaling, const Config& config) {
  if (!scaling.device.empty()) {
    const std::vector<std::string> known = device_names();
    if (std::find(known.begin(), known.end(), scaling.device) == known.end())
      throw UsageError("scaling.device: expected one of {}, found \"{}\"", fmt::join(known, ", "),
                       scaling.device);
    return scaling.device;
  }
  if (!scaling.profiles.empty() || !config.parallel.profile.empty()) return "";
  const bool on_gpus = config.run.device == RunConfig::Device::cuda ||
                       (with_cuda && config.run.device == RunConfig::Device::automatic);
  return on_gpus ? "h100" : "cpu";
}

std::string plan_flags(const ScalingStudy& scaling, const Config& config) {
  const std::string device = planned_device(scaling, config);
  std::string flags = device.empty() ? "" : " --gpu " + device;
  for (const std::string& file : scaling.profiles) flags += fmt::format(" --profile {}", file);
  if (scaling.profiles.empty() && !config.parallel.profile.empty())
    flags += fmt::format(" --profile {}", config.parallel.profile);
  return flags;
}

Config best_layout(const ScalingStudy& scaling, const Config& config, int ranks) {
  return with_layout(config, planned_layout(scaling, config, ranks).layout);
}

void plan_points(Sweep& sweep) {
  planned_device(*sweep.scaling, sweep.points.front().config);  // an unknown one is no reason of a point
  std::map<std::string, const SweepPoint*> planned;             // by group
  for (SweepPoint& point : sweep.points) {
    if (!point.illegal.empty()) continue;
    const auto [place, is_new] = planned.try_emplace(point.group, &point);
    if (!is_new) {
      point.planned = place->second->planned;
      point.unplanned = place->second->unplanned;
      continue;
    }
    try {
      point.planned = step_of(planned_layout(*sweep.scaling, fixed(point.config), point.ranks));
    } catch (const UsageError& error) {
      point.unplanned = error.what();
    }
  }
}

}  // namespace foretoken

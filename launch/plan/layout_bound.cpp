#include "launch/plan/layout_bound.h"

#include <algorithm>
#include <limits>

#include "launch/plan/step_costs.h"
#include "model/layout.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/planning/step_bound.h"
#include "parallel/planning/step_time.h"

namespace foretoken {

LayoutBound::LayoutBound(const Config& config, const DeviceTimes& times, DeviceKind device,
                         const Links& links)
    : config_(config),
      times_(times),
      links_(links),
      weight_bytes_(static_cast<double>(size_of(compute_dtype(config, device)))) {
  Config one_row = config;
  one_row.train.microbatch = 1;
  row_bytes_ = message_bytes(one_row, device);
  const bool frozen = config.train.freeze == TrainConfig::Freeze::trunk;
  for (const ParameterUnit& unit : units_of(config.model, config.mtp, one_stage(config.model), 0))
    if (unit.head || !frozen)
      for (const ParameterSpec& spec : unit.specs) trained_ += static_cast<double>(spec.shape.elements());
}

const LayerCosts& LayoutBound::layers_of(const PlanLayout& layout) {
  const auto [found, is_new] =
      layers_.try_emplace({layout.microbatch, static_cast<int>(layout.recompute),
                           static_cast<int>(layout.placement), splits_backward(layout.schedule)});
  if (is_new) found->second = times_.layers(with_layout(config_, layout));
  return found->second;
}

double LayoutBound::program_seconds(const PlanLayout& layout) {
  PlanLayout same = layout;
  same.sharded_optimizer = last_.sharded_optimizer;
  if (last_program_ >= 0 && same == last_) return last_program_;
  last_ = layout;
  const double bytes = static_cast<double>(layout.microbatch) * row_bytes_;
  last_program_ = least_program_time(
      layers_of(layout), {.shape = {.pp = layout.pp,
                                    .virtual_stages = layout.virtual_stages,
                                    .microbatches = static_cast<int>(config_.train.global_batch /
                                                                     (layout.microbatch * layout.dp))},
                          .split_backward = splits_backward(layout.schedule),
                          .message = std::min(links_.inside.latency, links_.between.latency) +
                                     bytes / std::max(links_.inside.bandwidth, links_.between.bandwidth)});
  return last_program_;
}

/// Of the pipeline rank whose group is the fastest.
double LayoutBound::gather_seconds_per_byte(const PlanLayout& layout) {
  const auto [found, is_new] =
      gathers_.try_emplace({layout.pp, layout.dp}, std::numeric_limits<double>::infinity());
  const Grid grid{.pp = layout.pp, .dp = layout.dp};
  for (int pp_rank = 0; is_new && pp_rank < layout.pp; ++pp_rank) {
    const GroupSpan group = data_parallel_span(grid, pp_rank, links_);
    constexpr double bytes = 1;
    found->second =
        std::min(found->second, collective_cost(Collective::all_gather, bytes, group, links_).bytes /
                                    collective_bandwidth(group, links_));
  }
  return found->second;
}

double LayoutBound::seconds(const PlanLayout& layout) {
  const int world = layout.pp * layout.dp;
  const GroupSpan all{
      .ranks = world, .nodes = links_.node_of(world - 1) + 1, .per_node = std::min(world, links_.per_node)};
  const double parameters = trained_ / layout.pp;
  const bool sharded = layout.sharded_optimizer && layout.dp > 1;
  double last = times_.update(config_, sharded ? parameters / layout.dp : parameters);
  if (sharded) last = std::max(last, parameters * weight_bytes_ * gather_seconds_per_byte(layout));
  const double sum = program_seconds(layout) +
                     collective_seconds(Collective::all_reduce, norm_bytes, all, links_) + last +
                     times_.host(with_layout(config_, layout));
  return sum * (1 - 1e-9);  // sums are rounded
}

}  // namespace foretoken

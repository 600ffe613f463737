#include "launch/plan/rated_times.h"

#include "launch/config/layout.h"
#include "launch/session/session.h"

namespace foretoken {

namespace {

/// Times that a half layer reads or writes a tensor of [tokens, hidden size] outside of products and
/// attention, in forward and backward together: 33.2 ms of a 549 ms step (launch/docs/plan.md).
constexpr double passes_per_half = 14.8;

}  // namespace

LayerCosts RatedTimes::layers(const Config& config) const {
  LayerCosts costs = estimated_costs(config, Purpose::train);
  const auto tokens = static_cast<double>(config.train.microbatch * config.data.sequence_length);
  const double factor = tokens / rates_.products;
  const double bytes = tokens * static_cast<double>(config.model.hidden_size) *
                       static_cast<double>(size_of(compute_dtype(config, rates_.kind)));
  const double passes = passes_per_half * bytes / rates_.row_bandwidth;
  const bool frozen = config.train.freeze == TrainConfig::Freeze::trunk;
  for (StageDurations& half : costs.halves)
    half = factor * half + StageDurations{passes / 3, frozen ? 0 : passes * 2 / 3, 0};
  costs.first = factor * costs.first;
  costs.last = factor * costs.last;
  for (StageDurations& depth : costs.after) depth = factor * depth;
  return costs;
}

double RatedTimes::update(const Config& config, double parameters) const {
  const double copy = compute_dtype(config, rates_.kind) == DType::f32 ? 0 : 2;  // bytes of a weight's copy
  const double moment = config.optimizer.moments == OptimizerSettings::Moments::bf16 ? 2 : 4;
  return parameters * (12 + 4 * moment + copy) / rates_.update_bandwidth;
}

double RatedTimes::gradient_norm(const Config&, double parameters) const {
  return parameters * 4 / rates_.update_bandwidth;
}

}  // namespace foretoken

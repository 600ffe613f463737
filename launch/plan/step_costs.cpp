#include "launch/plan/step_costs.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/session/rank_memory.h"
#include "model/layout.h"
#include "parallel/pipeline/schedules.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

/// The lowest of the rank's stages that reads a unit: its backward is the last that adds to the gradient.
int last_to_add(const SessionPlan& plan, int pp_rank, const UnitId& id) {
  using Kind = UnitId::Kind;
  const ModelConfig& model = plan.config.model;
  const MtpConfig& mtp = plan.config.mtp;
  for (const int stage : plan.layout.stages_of(pp_rank)) {
    const StageTensors tensors = tensors_of(model, mtp, plan.layout, stage);
    if ((id.kind == Kind::embedding && tensors.embedding) ||
        (id.kind == Kind::final_norm && tensors.final_norm) || (id.kind == Kind::head && tensors.head) ||
        (id.kind == Kind::mtp && (mtp.repeat ? !tensors.depths.empty() : tensors.depths.has(id.number))))
      return stage;
  }
  throw DefectError("step costs: pipeline rank {} holds \"{}\", but no stage reads it", pp_rank,
                    to_string(id));
}

/// The fraction of a stage's backward, or of its weight half, after which it has reached `first_half`.
/// Backward starts with the heads.
double reached_after(const LayerCosts& costs, const ModelLayout& layout, int stage, int first_half,
                     bool split, const StageDurations& whole) {
  const auto seconds = [split](const StageDurations& part) {
    return split ? part.backward_weight : part.backward();
  };
  const double all = seconds(whole);
  if (first_half < 0 || all <= 0) return 1;
  const auto begin = layout.halves_per_stage.begin();
  double left = stage == 0 ? seconds(costs.first) : 0;
  for (int half = std::accumulate(begin, begin + stage, 0); half < first_half; ++half)
    left += seconds(costs.halves[at(half)]);
  return std::max(0.0, 1 - left / all);
}

}  // namespace

double message_bytes(const Config& config, DeviceKind device) {
  return static_cast<double>(config.train.microbatch * config.data.sequence_length *
                             config.model.hidden_size) *
         static_cast<double>(size_of(compute_dtype(config, device)));
}

StepCostModel::RankBuckets StepCostModel::plan_buckets(const SessionPlan& plan, int pp_rank) {
  const Config& config = plan.config;
  Arena arena = Arena::counting(plan.device.kind);
  const Parameters parameters =
      plan_parameters(arena, {.model = config.model,
                              .mtp = config.mtp,
                              .layout = plan.layout,
                              .pp_rank = pp_rank,
                              .activations = compute_dtype(config, plan.device.kind),
                              .frozen_trunk = config.train.freeze == TrainConfig::Freeze::trunk});
  std::vector<int> ends(plan.layout.halves_per_stage.size());
  std::partial_sum(plan.layout.halves_per_stage.begin(), plan.layout.halves_per_stage.end(), ends.begin());
  RankBuckets buckets;
  for (const Bucket& bucket : plan_shards(plan, parameters, 0).buckets) {
    BucketShape shape{.elements = bucket.frozen ? 0 : bucket.range.size(), .canonical = bucket.canonical};
    // The first unit in forward order is the last whose gradient is final.
    const ParameterUnit& unit = parameters.units()[at(bucket.first_unit)];
    shape.holders = unit.holders;
    const UnitId id = id_of(unit);
    switch (id.kind) {
      case UnitId::Kind::layer:
      case UnitId::Kind::attention:
      case UnitId::Kind::mlp:
        shape.first_half = 2 * id.number + (id.kind == UnitId::Kind::mlp ? 1 : 0);
        while (ends[at(shape.stage)] <= shape.first_half) ++shape.stage;
        break;
      default:
        shape.stage = last_to_add(plan, pp_rank, id);
        // The first stage looks up the embedding before its layers; all else runs after a stage's layers.
        if (id.kind != UnitId::Kind::embedding || shape.stage > 0) shape.first_half = ends[at(shape.stage)];
    }
    buckets.push_back(std::move(shape));
  }
  return buckets;
}

const std::vector<StepCostModel::RankBuckets>& StepCostModel::buckets_of(const SessionPlan& plan) {
  const Grid& grid = plan.grid();
  const std::string key =
      fmt::format("{} {} {} {} {}", grid.pp, grid.virtual_stages, grid.dp,
                  static_cast<int>(plan.config.mtp.placement), fmt::join(plan.layout.halves_per_stage, " "));
  const auto found = buckets_.find(key);
  if (found != buckets_.end()) return found->second;
  std::vector<RankBuckets> ranks;
  for (int pp_rank = 0; pp_rank < grid.pp; ++pp_rank) ranks.push_back(plan_buckets(plan, pp_rank));
  return buckets_.emplace(key, std::move(ranks)).first->second;
}

StepCosts StepCostModel::costs(const SessionPlan& plan) {
  const Config& config = plan.config;
  const Grid& grid = plan.grid();
  const DeviceKind device = plan.device.kind;
  const LayerCosts layers = times_.layers(config);
  StepCosts step{.stages = stage_costs(layers, plan.layout.halves_per_stage),
                 .boundary_bytes = std::vector(at(grid.stages() - 1), message_bytes(config, device)),
                 .dp = grid.dp,
                 .sharded_optimizer = config.parallel.sharded_optimizer,
                 .host = times_.host(config)};
  const bool split = splits_backward(config.parallel.schedule);
  const double owned = step.sharded_optimizer ? 1.0 / grid.dp : 1;
  const auto weight = static_cast<double>(size_of(compute_dtype(config, device)));
  constexpr double gradient = 4;
  for (const RankBuckets& buckets : buckets_of(plan)) {
    RankCosts& rank = step.ranks.emplace_back();
    double trained = 0, counted = 0;
    for (const BucketShape& bucket : buckets) {
      trained += static_cast<double>(bucket.elements);
      if (bucket.canonical) counted += static_cast<double>(bucket.elements);
    }
    const double update = times_.update(config, owned * trained);
    rank.norm = times_.gradient_norm(config, counted / grid.dp);
    for (const BucketShape& bucket : buckets) {
      const auto elements = static_cast<double>(bucket.elements);
      const double final_after = reached_after(layers, plan.layout, bucket.stage, bucket.first_half, split,
                                               step.stages[at(bucket.stage)]);
      rank.buckets.push_back({.stage = bucket.stage,
                              .final_after = final_after,
                              .gradient_bytes = gradient * elements,
                              .weight_bytes = weight * elements,
                              .update = trained > 0 ? update * elements / trained : 0,
                              .holders = bucket.holders});
    }
  }
  return step;
}

}  // namespace foretoken

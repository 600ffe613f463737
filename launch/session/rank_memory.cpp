#include "launch/session/rank_memory.h"

#include "parallel/optimizer/state_digest.h"
#include "runtime/device.h"

namespace foretoken {

OptimizerConfig optimizer_config(const OptimizerSettings& settings) {
  return {.beta1 = settings.beta1,
          .beta2 = settings.beta2,
          .eps = settings.eps,
          .weight_decay = settings.weight_decay,
          .clip_norm = settings.clip,
          .heads_clip_norm = settings.heads_clip,
          .moments = settings.moments == OptimizerSettings::Moments::bf16 ? DType::bf16 : DType::f32};
}

ShardPlan plan_shards(const SessionPlan& plan, const Parameters& parameters, int dp_rank) {
  const Config& config = plan.config;
  return plan_shards(parameters, {.bucket_bytes = config.parallel.bucket_mib << 20,
                                  .dp = plan.grid().dp,
                                  .dp_rank = dp_rank,
                                  .sharded = config.parallel.sharded_optimizer,
                                  .heads_apart = config.optimizer.heads_clip > 0});
}

RankMemory plan_memory(const SessionPlan& plan, int pp_rank, int dp_rank) {
  Device host({.threads = 1});  // operators that a plan enqueues, of which a counting arena runs none
  const RankModel model(host.stream(), Arena::counting(plan.device.kind), model_options(plan, pp_rank));
  RankMemory memory{.use = model.memory().use(), .allocated = model.memory().allocated()};
  if (plan.purpose != Purpose::train) return memory;
  Arena arena = Arena::counting(plan.device.kind);
  const ShardPlan shards = plan_shards(plan, model.parameters(), dp_rank);
  const OptimizerState state(arena, model.parameters(), shards, optimizer_config(plan.config.optimizer));
  const StateDigest digest(arena, state, model.parameters());
  memory.use += arena.use();
  memory.allocated += arena.allocated();
  return memory;
}

}  // namespace foretoken

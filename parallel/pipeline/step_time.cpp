#include "parallel/pipeline/step_time.h"

#include <algorithm>

#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/pipeline/simulate.h"
#include "parallel/pipeline/validate_program.h"

namespace foretoken {

StepSimulation::StepSimulation(std::string_view schedule, const PipelineShape& shape)
    : shape_(shape), lowered_(lower_program(make_program(schedule, shape))) {}

double StepSimulation::seconds(const StepCosts& costs, const Links& links) const {
  const Grid grid{.pp = shape_.pp, .dp = costs.dp, .virtual_stages = shape_.virtual_stages};
  Durations durations{.stages = costs.stages};
  if (!costs.boundary_bytes.empty() && shape_.pp > 1) {
    const Link& link = shape_.pp > links.per_node ? links.between : links.inside;
    durations.message =
        link.latency +
        *std::max_element(costs.boundary_bytes.begin(), costs.boundary_bytes.end()) / link.bandwidth;
  }
  const SimulatedTimeline timeline = simulate(lowered_, validate_program(lowered_), durations);
  double end = timeline.makespan();
  double reduced = end, update = 0;
  for (int rank = 0; rank < static_cast<int>(costs.ranks.size()); ++rank) {
    const RankCosts& own = costs.ranks[static_cast<std::size_t>(rank)];
    const GroupSpan group = data_parallel_span(grid, rank, links);
    double free = 0, gathered = 0, updated = 0;
    for (const BucketCosts& bucket : own.buckets) {
      if (bucket.gradient_bytes == 0) continue;
      double ready = 0;
      for (const Span& span : timeline.ranks[static_cast<std::size_t>(rank)])
        if (span.action.stage == bucket.stage && span.action.kind != ActionKind::backward_input)
          ready = span.start + bucket.final_after * (span.end - span.start);
      free = std::max(free, ready) +
             collective_seconds(costs.sharded_optimizer ? Collective::reduce_scatter : Collective::all_reduce,
                                bucket.gradient_bytes, group, links);
      updated += bucket.update;
      if (costs.sharded_optimizer)
        gathered = std::max(gathered, updated) +
                   collective_seconds(Collective::all_gather, bucket.weight_bytes, group, links);
    }
    reduced = std::max(reduced, free + own.norm);
    update = std::max({update, updated, gathered});
  }
  return reduced + update + costs.host;
}

StepTime StepSimulation::predict(const StepCosts& costs, const Links& links) const {
  StepCosts program = costs;
  program.ranks.clear();
  program.host = 0;
  const double with_messages = seconds(program, links), free = seconds(program, Links{});
  StepTime step{.total = seconds(costs, links)};
  for (int rank = 0; rank < shape_.pp; ++rank) {
    StepShares shares{.exposed_messages = with_messages - free, .host = costs.host};
    for (int stage = rank; stage < shape_.stages(); stage += shape_.pp)
      shares.compute += shape_.microbatches * costs.stages[static_cast<std::size_t>(stage)].total();
    if (!costs.ranks.empty()) {
      const RankCosts& own = costs.ranks[static_cast<std::size_t>(rank)];
      shares.optimizer = own.norm;
      for (const BucketCosts& bucket : own.buckets) shares.optimizer += bucket.update;
    }
    shares.exposed_reductions = seconds(costs, links) - with_messages - costs.host;
    for (const BucketCosts& bucket :
         costs.ranks.empty() ? std::vector<BucketCosts>{} : costs.ranks[0].buckets)
      shares.exposed_reductions -= bucket.update;
    shares.bubble = step.total - shares.total();
    step.ranks.push_back(shares);
    const double part = 1.0 / shape_.pp;
    step.step.compute += part * shares.compute;
    step.step.bubble += part * shares.bubble;
    step.step.exposed_messages += part * shares.exposed_messages;
    step.step.exposed_reductions += part * shares.exposed_reductions;
    step.step.exposed_gathers += part * shares.exposed_gathers;
    step.step.optimizer += part * shares.optimizer;
    step.step.host += part * shares.host;
  }
  return step;
}

}  // namespace foretoken

#include "launch/plan/planner.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <tuple>

#include "model/cost.h"
#include "parallel/pipeline/schedules.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

class Planner {
 public:
  Planner(const Config& config, int ranks, const PlanOptions& options)
      : config_(config), options_(options), estimator_(*options_.times, options_.rates, options_.per_node) {
    plan_.ranks = ranks;
  }

  RanksPlan run() {
    const std::vector<PlanLayout> layouts = legal_layouts(config_, plan_.ranks);
    plan_.legal = layouts.size();
    if (layouts.empty())
      throw UsageError(
          "plan: no layout of {} is legal: global_batch {} must be a multiple of dp, and {} fill at most {} "
          "stages",
          counted(plan_.ranks, "rank"), config_.train.global_batch,
          counted(config_.model.num_hidden_layers, "layer"), 2 * config_.model.num_hidden_layers);
    const std::size_t wanted = 3 * static_cast<std::size_t>(std::max(10, options_.top));
    for (const std::size_t index : in_order_of_first_estimate(layouts)) {
      if (plan_.best.size() == wanted) break;
      visit(layouts[index]);
    }
    std::stable_sort(plan_.best.begin(), plan_.best.end(),
                     [](const PlannedLayout& a, const PlannedLayout& b) {
                       return std::tie(a.step.total, a.memory) < std::tie(b.step.total, b.memory);
                     });
    if (plan_.best.size() > static_cast<std::size_t>(options_.top))
      plan_.best.resize(static_cast<std::size_t>(options_.top));
    return std::move(plan_);
  }

 private:
  /// Seconds of a step in a pipeline whose ranks compute equally long.
  double first_estimate(const PlanLayout& layout) {
    const bool split = layout.schedule == "zero_bubble_h1";
    const auto [found, is_new] = microbatch_seconds_.try_emplace(
        {layout.microbatch, static_cast<int>(layout.recompute), static_cast<int>(layout.placement), split},
        StageDurations{});
    if (is_new) {
      const LayerCosts costs = options_.times->layers(with_layout(config_, layout));
      found->second = std::accumulate(costs.halves.begin(), costs.halves.end(), costs.first + costs.last);
      for (const StageDurations& depth : costs.after) found->second += depth;
    }
    const double rank = found->second.total() / layout.pp;
    const double fill = (layout.pp - 1) *
                        (rank - (split ? 2 * found->second.backward_weight / layout.pp : 0)) /
                        layout.virtual_stages;
    const auto microbatches = static_cast<double>(config_.train.global_batch / layout.dp / layout.microbatch);
    return microbatches * rank + fill;
  }

  std::vector<std::size_t> in_order_of_first_estimate(const std::vector<PlanLayout>& layouts) {
    std::vector<double> seconds;
    for (const PlanLayout& layout : layouts) seconds.push_back(first_estimate(layout));
    std::vector<std::size_t> order(layouts.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return seconds[a] < seconds[b]; });
    return order;
  }

  void visit(const PlanLayout& layout) {
    // More rows per microbatch or more slots never need less memory.
    const auto key = std::tuple(layout.pp, layout.virtual_stages, static_cast<int>(layout.recompute),
                                static_cast<int>(layout.placement), layout.sharded_optimizer);
    const auto known = fewest_too_large_.find(key);
    if (known != fewest_too_large_.end() && layout.microbatch >= known->second) {
      ++plan_.too_large;
      return;
    }
    PlannedLayout planned{.layout = layout};
    SessionPlan session{.config = with_layout(config_, layout), .device = {.kind = options_.rates.kind}};
    const Grid grid{layout.pp, layout.dp, layout.virtual_stages};
    session.layout = even_layout(session.config, grid, Purpose::train);
    session.training.footprint.slots.assign(static_cast<std::size_t>(grid.stages()), 1);
    session.evaluation.footprint.slots = session.training.footprint.slots;
    if (!measure(session, planned)) {
      fewest_too_large_.insert_or_assign(key, layout.microbatch);
      return;
    }
    if (!measure_programs(session, planned)) return;
    session.layout = trained_layout(session.config, grid);
    if (!measure(session, planned)) return;
    planned.halves_per_stage = session.layout.halves_per_stage;
    planned.step = estimator_.estimate(session.config, session.layout);
    const auto tokens = static_cast<double>(config_.train.global_batch * config_.data.sequence_length);
    planned.tokens_per_second = tokens / planned.step.total;
    planned.model_flops = training_flops_per_token(config_.model, config_.mtp, config_.data.sequence_length) *
                          planned.tokens_per_second / plan_.ranks;
    plan_.best.push_back(std::move(planned));
  }

  /// Counts the fullest rank's memory. Returns whether it fits; a layout that does not is recorded.
  bool measure(const SessionPlan& session, PlannedLayout& planned) {
    planned.fullest = memory_.fullest(session);
    planned.memory = planned.fullest.memory.allocated + options_.rates.libraries;
    if (!options_.memory || planned.memory <= *options_.memory) return true;
    ++plan_.too_large;
    if (!plan_.nearest || planned.memory < plan_.nearest->memory) plan_.nearest = planned;
    return false;
  }

  /// Measures with the slots of the step's programs. Programs of more and more microbatches are tried,
  /// because a long one takes seconds to build: once four times the microbatches need no more slots, the
  /// whole step needs no more either. Groups of interleaved_1f1b have the sizes of the whole step only if pp
  /// divides the microbatches.
  bool measure_programs(SessionPlan& session, PlannedLayout& planned) {
    const PipelineShape whole = shape_of(session.config, session.grid());
    const int rest = whole.microbatches % whole.pp;
    std::vector<int> slots;
    for (std::int64_t groups = 2; rest == 0 && groups * whole.pp < whole.microbatches; groups *= 4) {
      PipelineShape shape = whole;
      shape.microbatches = static_cast<int>(groups * whole.pp);
      set_programs(session, shape);
      if (session.training.footprint.slots == slots) return true;
      if (!measure(session, planned)) return false;
      slots = session.training.footprint.slots;
    }
    set_programs(session, whole);
    return measure(session, planned);
  }

  /// The layout that training would choose. It does not depend on the rows of a microbatch beyond their
  /// number per step, nor on the sharding of the optimizer.
  const ModelLayout& trained_layout(const Config& config, const Grid& grid) {
    const auto key = std::tuple(config.parallel.schedule, grid.pp, grid.virtual_stages,
                                shape_of(config, grid).microbatches, static_cast<int>(config.train.recompute),
                                static_cast<int>(config.mtp.placement));
    const auto found = layouts_.find(key);
    if (found != layouts_.end()) return found->second;
    return layouts_.emplace(key, resolve_layout(config, grid, Purpose::train)).first->second;
  }

  void set_programs(SessionPlan& session, const PipelineShape& shape) {
    const std::string& schedule = session.config.parallel.schedule;
    const std::tuple key(shape.pp, shape.virtual_stages, shape.microbatches);
    auto training = training_.find({schedule, key});
    if (training == training_.end())
      training = training_.emplace(std::pair(schedule, key), make_ready(make_program(schedule, shape))).first;
    auto evaluation = evaluation_.find(key);
    if (evaluation == evaluation_.end())
      evaluation = evaluation_.emplace(key, make_ready(forward_only(shape)).footprint).first;
    session.training = training->second;
    session.evaluation.footprint = evaluation->second;
  }

  const Config& config_;
  const PlanOptions& options_;
  RanksPlan plan_;
  RankMemoryCounter memory_;
  StepEstimator estimator_;
  /// Of the whole model, by rows, recompute, placement, and whether backward is split.
  std::map<std::tuple<std::int64_t, int, int, bool>, StageDurations> microbatch_seconds_;
  std::map<std::tuple<int, int, int, int, bool>, std::int64_t> fewest_too_large_;  // rows of a microbatch
  std::map<std::tuple<std::string, int, int, int, int, int>, ModelLayout> layouts_;
  std::map<std::pair<std::string, std::tuple<int, int, int>>, ReadyProgram> training_;  // by schedule, shape
  std::map<std::tuple<int, int, int>, ProgramFootprint> evaluation_;                    // by shape
};

}  // namespace

RanksPlan plan_ranks(const Config& config, int ranks, const PlanOptions& options) {
  return Planner(config, ranks, options).run();
}

}  // namespace foretoken

#include "launch/plan/planner.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "launch/plan/communicator_memory.h"
#include "launch/plan/layout_bound.h"
#include "launch/plan/step_costs.h"
#include "launch/plan/step_programs.h"
#include "model/cost.h"
#include "parallel/pipeline/schedules.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

/// Limits the memory of the simulations that are kept for later layouts: each has some megabytes.
constexpr std::size_t most_predictions = 64;

/// Equal steps of different layouts differ in their last bits.
float rounded(double seconds) {
  return static_cast<float>(seconds);
}

class Planner {
 public:
  Planner(const Config& config, int ranks, const PlanOptions& options)
      : config_(config), options_(options), links_(links_of(options)), costs_(*options_.times) {
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
    LayoutBound bound(config_, *options_.times, options_.rates.kind, links_);
    std::vector<std::pair<double, std::size_t>> order;
    for (std::size_t i = 0; i < layouts.size(); ++i) order.emplace_back(bound.seconds(layouts[i]), i);
    std::sort(order.begin(), order.end());
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (is_worse(order[i].first)) {
        plan_.not_faster += order.size() - i;
        break;
      }
      visit(layouts[order[i].second]);
    }
    for (PlannedLayout& planned : plan_.best) complete(planned);
    find_nearest();
    return std::move(plan_);
  }

 private:
  /// Whether a layout of this step time is not among the best.
  bool is_worse(double seconds) const {
    return plan_.best.size() == static_cast<std::size_t>(options_.top) &&
           rounded(seconds) > rounded(plan_.best.back().step.total);
  }

  void visit(const PlanLayout& layout) {
    PlannedLayout planned{.layout = layout};
    SessionPlan session = session_of(layout);
    const Grid grid = grid_of(layout);
    if (options_.rates.kind == DeviceKind::cuda)
      planned.communicators = communicators_.bytes(session.config, grid);
    if (options_.memory && !fits_evenly(session, planned)) return;
    session.layout = trained_layout(session.config, grid);
    planned.halves_per_stage = session.layout.halves_per_stage;
    planned.step.total = prediction(session).seconds(costs_.costs(session), links_);
    if (is_worse(planned.step.total)) {
      ++plan_.not_faster;
      return;
    }
    if (programs_.visit(session, [&] { return measure(session, planned); })) insert(std::move(planned));
  }

  /// Whether the layout fits with the even partition. Most layouts that do not are found with one slot per
  /// stage, or because fewer rows per microbatch on the same stages do not fit either.
  bool fits_evenly(SessionPlan& session, PlannedLayout& planned) {
    const PlanLayout& layout = planned.layout;
    session.layout = even_partition(session.config, layout);
    const auto [known, is_new] = fewest_too_large_.try_emplace(
        {layout.pp, static_cast<int>(layout.recompute), static_cast<int>(layout.placement),
         layout.sharded_optimizer, session.layout.halves_per_stage});
    if (!is_new && layout.microbatch >= known->second.microbatch) {
      planned.memory = known->second.memory;
      ++plan_.too_large;
      too_large_.push_back(planned);
      return false;
    }
    session.training.footprint.slots.assign(static_cast<std::size_t>(session.layout.stages()), 1);
    session.evaluation.footprint.slots = session.training.footprint.slots;
    if (!measure(session, planned)) {
      known->second = {layout.microbatch, planned.memory};
      return false;
    }
    return programs_.visit(session, [&] { return measure(session, planned); });
  }

  /// even_layout(). Without measured times the costs of layers are proportional to the rows of a microbatch.
  ModelLayout even_partition(const Config& config, const PlanLayout& layout) {
    const auto [found, is_new] = even_layouts_.try_emplace(
        {layout.pp, layout.virtual_stages, static_cast<int>(layout.recompute),
         static_cast<int>(layout.placement), config.device_times ? layout.microbatch : 0,
         splits_backward(layout.schedule)});
    if (is_new) found->second = even_layout(config, grid_of(layout), Purpose::train);
    ModelLayout even = found->second;
    even.grid = grid_of(layout);
    return even;
  }

  void count(const SessionPlan& session, PlannedLayout& planned) {
    planned.fullest = memory_.fullest(session);
    planned.memory = planned.fullest.memory.allocated + options_.rates.libraries + planned.communicators;
  }

  /// Counts the fullest rank's memory. Returns whether it fits; a layout that does not is recorded.
  bool measure(const SessionPlan& session, PlannedLayout& planned) {
    count(session, planned);
    if (!options_.memory || planned.memory <= *options_.memory) return true;
    ++plan_.too_large;
    too_large_.push_back(planned);
    return false;
  }

  /// The layout that training would choose. It depends on the costs of the layers, not on the sharding of the
  /// optimizer.
  ModelLayout trained_layout(const Config& config, const Grid& grid) {
    const LayerCosts costs = layer_costs(config, Purpose::train);
    std::vector<double> key{costs.last_apart ? 1.0 : 0.0, static_cast<double>(costs.fewest_on_last)};
    const auto add = [&](const StageDurations& part) {
      key.insert(key.end(), {part.forward, part.backward_input, part.backward_weight});
    };
    for (const StageDurations& half : costs.halves) add(half);
    add(costs.first);
    add(costs.last);
    for (const StageDurations& depth : costs.after) add(depth);
    const PipelineShape shape = shape_of(config, grid);
    const auto [found, is_new] = layouts_.try_emplace(std::tuple(
        config.parallel.schedule, shape.pp, shape.virtual_stages, shape.microbatches, std::move(key)));
    if (is_new) found->second = resolve_layout(config, grid, Purpose::train);
    ModelLayout layout = found->second;
    layout.grid = grid;
    return layout;
  }

  const SchedulePrediction& prediction(const SessionPlan& session) {
    const PipelineShape shape = shape_of(session.config, session.grid());
    const std::tuple key(session.config.parallel.schedule, shape.pp, shape.virtual_stages,
                         shape.microbatches);
    const auto found = predictions_.find(key);
    if (found != predictions_.end()) return found->second;
    if (predictions_.size() == most_predictions) predictions_.clear();
    return predictions_.emplace(key, SchedulePrediction(session.config.parallel.schedule, shape))
        .first->second;
  }

  void insert(PlannedLayout planned) {
    std::vector<PlannedLayout>& best = plan_.best;
    const auto is_same = [&](const PlannedLayout& other) {
      PlanLayout layout = other.layout;
      layout.placement = planned.layout.placement;
      return layout == planned.layout && other.halves_per_stage == planned.halves_per_stage &&
             (other.layout.placement == MtpConfig::Placement::stage_per_depth) ==
                 (planned.layout.placement == MtpConfig::Placement::stage_per_depth);
    };
    if (std::any_of(best.begin(), best.end(), is_same)) return;
    const auto is_better = [](const PlannedLayout& a, const PlannedLayout& b) {
      return std::pair(rounded(a.step.total), a.memory) < std::pair(rounded(b.step.total), b.memory);
    };
    best.insert(std::upper_bound(best.begin(), best.end(), planned, is_better), std::move(planned));
    if (best.size() <= static_cast<std::size_t>(options_.top)) return;
    best.pop_back();
    ++plan_.not_faster;
  }

  static Grid grid_of(const PlanLayout& layout) { return {layout.pp, layout.dp, layout.virtual_stages}; }

  /// Without a partition and programs.
  SessionPlan session_of(const PlanLayout& layout) const {
    return {.config = with_layout(config_, layout), .device = {.kind = options_.rates.kind}};
  }

  /// Of the layouts that do not fit, finds the one that needs the least.
  void find_nearest() {
    std::stable_sort(too_large_.begin(), too_large_.end(),
                     [](const PlannedLayout& a, const PlannedLayout& b) { return a.memory < b.memory; });
    for (PlannedLayout& planned : too_large_) {
      if (plan_.nearest && plan_.nearest->memory <= planned.memory) return;
      SessionPlan session = session_of(planned.layout);
      session.layout = planned.halves_per_stage.empty()
                           ? even_partition(session.config, planned.layout)
                           : trained_layout(session.config, grid_of(planned.layout));
      if (programs_.visit(session, [&] {
            count(session, planned);
            return !plan_.nearest || planned.memory < plan_.nearest->memory;
          }))
        plan_.nearest = planned;
    }
  }

  /// Fills in what only the shown layouts need.
  void complete(PlannedLayout& planned) {
    SessionPlan session = session_of(planned.layout);
    session.layout = trained_layout(session.config, grid_of(planned.layout));
    planned.step = prediction(session).predict(costs_.costs(session), links_);
    const auto tokens = static_cast<double>(config_.train.global_batch * config_.data.sequence_length);
    planned.tokens_per_second = tokens / planned.step.total;
    planned.model_flops = training_flops_per_token(config_.model, config_.mtp, config_.data.sequence_length) *
                          planned.tokens_per_second / plan_.ranks;
  }

  /// The fewest rows of a microbatch that do not fit, and the memory that they need with one slot per stage.
  struct TooLarge {
    std::int64_t microbatch = std::numeric_limits<std::int64_t>::max();
    std::size_t memory = 0;
  };

  const Config& config_;
  const PlanOptions& options_;
  const Links links_;
  RanksPlan plan_;
  std::vector<PlannedLayout> too_large_;  // with a lower bound of their memory
  RankMemoryCounter memory_;
  CommunicatorMemory communicators_;
  StepCostModel costs_;
  StepPrograms programs_;
  /// By pp, stages per rank, recompute, placement, microbatch and split backward.
  std::map<std::tuple<int, int, int, int, std::int64_t, bool>, ModelLayout> even_layouts_;
  /// By pp, recompute, placement, sharded optimizer and halves per stage.
  std::map<std::tuple<int, int, int, bool, std::vector<int>>, TooLarge> fewest_too_large_;
  std::map<std::tuple<std::string, int, int, int, std::vector<double>>, ModelLayout> layouts_;
  std::map<std::tuple<std::string, int, int, int>, SchedulePrediction> predictions_;
};

}  // namespace

Links links_of(const PlanOptions& options) {
  return {.inside = options.rates.inside,
          .between = options.rates.between,
          .per_node = options.per_node,
          .adapters = options.rates.kind == DeviceKind::cuda ? options.per_node : 1,
          .in_background = options.rates.kind == DeviceKind::cuda};
}

RanksPlan plan_ranks(const Config& config, int ranks, const PlanOptions& options) {
  return Planner(config, ranks, options).run();
}

}  // namespace foretoken

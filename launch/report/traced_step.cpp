#include "launch/report/traced_step.h"

#include <algorithm>
#include <map>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/config/config_validator.h"
#include "launch/session/session.h"
#include "parallel/pipeline/prerequisites.h"
#include "parallel/planning/step_time.h"
#include "runtime/error.h"
#include "runtime/median.h"

namespace foretoken {

namespace {

using SpansByName = std::map<std::string, const TimelineSpan*>;

SpansByName actions_of(const TracedRank& rank) {
  SpansByName actions;
  for (const TimelineSpan& span : rank.spans)
    if (is_action(span)) actions.emplace(span.name, &span);
  return actions;
}

/// The action whose result the receive brings: "1F0" for RF of stage 2.
std::vector<Action> senders_of(const Action& receive) {
  if (receive.kind == ActionKind::receive_activation)
    return {{ActionKind::forward, receive.stage - 1, receive.microbatch}};
  return {{ActionKind::backward, receive.stage + 1, receive.microbatch},
          {ActionKind::backward_input, receive.stage + 1, receive.microbatch}};
}

double time_in_actions(std::span<const TracedRank> trace) {
  double time = 0;
  for (const TracedRank& rank : trace)
    for (const TimelineSpan& span : rank.spans)
      if (is_action(span)) time += span.end - span.begin;
  return time;
}

double computed(const TracedRank& rank) {
  double time = 0;
  for (const TimelineSpan& span : rank.spans)
    if (span.kind == TimelineSpan::Kind::compute) time += span.end - span.begin;
  return time;
}

std::optional<double> median_of(const std::vector<double>& values) {
  return values.empty() ? std::nullopt : std::optional(median(values));
}

}  // namespace

bool is_action(const TimelineSpan& span) {
  return span.kind == TimelineSpan::Kind::compute && !span.name.empty() && span.name[0] >= '0' &&
         span.name[0] <= '9';
}

MessageTimes message_times(std::span<const TracedRank> trace, const Program& program, const Grid& grid,
                           const Links& nodes) {
  std::vector<SpansByName> spans;
  for (const TracedRank& rank : trace) spans.push_back(actions_of(rank));
  std::vector<double> inside, between;
  const auto measure = [&](const Action& action, int rank, double free_since) {
    const SpansByName& own = spans[static_cast<std::size_t>(rank)];
    const auto started = own.find(to_string(action));
    if (started == own.end()) return;
    for (const Action& needed : prerequisites(action, program.shape)) {
      if (!is_receive(needed.kind)) continue;
      for (const Action& sender : senders_of(needed)) {
        const int from = grid.rank_of(program.shape.rank_of(sender.stage), grid.dp_rank_of(rank));
        const SpansByName& others = spans[static_cast<std::size_t>(from)];
        const auto sent = others.find(to_string(sender));
        if (sent == others.end() || sent->second->end <= free_since) continue;
        (nodes.node_of(from) == nodes.node_of(rank) ? inside : between)
            .push_back(std::max(0.0, started->second->begin - sent->second->end));
      }
    }
  };
  for (int rank = 0; rank < grid.world(); ++rank) {
    double free_since = 0;
    for (const Action& action : program.ranks[static_cast<std::size_t>(grid.pp_rank_of(rank))]) {
      if (!is_compute(action.kind)) continue;
      measure(action, rank, free_since);
      const SpansByName& own = spans[static_cast<std::size_t>(rank)];
      if (const auto span = own.find(to_string(action)); span != own.end()) free_since = span->second->end;
    }
  }
  return {.inside = median_of(inside), .between = median_of(between)};
}

SimulatedStep simulate_traced(std::span<const TracedRank> trace, const Config& config, const Links& nodes) {
  const int ranks = static_cast<int>(trace.size());
  const SessionPlan plan =
      plan_session(config, resolve_grid(config, ranks), Purpose::train, Device::Options{});
  const Grid& grid = plan.grid();
  const Program& program = plan.training.program;
  StepCosts costs{.stages = stage_costs(layer_costs(config, Purpose::train), plan.layout.halves_per_stage),
                  .dp = grid.dp};
  double actions = 0;
  for (const std::vector<Action>& rank : program.ranks)
    for (const Action& action : rank)
      actions += duration_of(action.kind, costs.stages[static_cast<std::size_t>(action.stage)]);
  for (StageDurations& stage : costs.stages) stage = time_in_actions(trace) / grid.dp / actions * stage;

  SimulatedStep step{.timeline = {}, .messages = message_times(trace, program, grid, nodes)};
  // A measured time holds for a message's size, so it is all latency here.
  costs.boundary_bytes.assign(costs.stages.size() - 1, 1.0);
  Links links = nodes;
  links.inside = {.latency = step.messages.inside.value_or(0)};
  links.between = {.latency = step.messages.between.value_or(0)};
  step.timeline = StepSimulation(program, plan.training.footprint).timeline(costs, links);
  return step;
}

std::vector<std::size_t> spaced_ranks(std::size_t ranks, std::size_t most) {
  std::vector<std::size_t> chosen(std::min(ranks, most));
  for (std::size_t i = 0; i < chosen.size(); ++i)
    chosen[i] = ranks <= most ? i : i * (ranks - 1) / (most - 1);
  return chosen;
}

DrawnRanks drawn_ranks(std::span<const TracedRank> trace, int pp, std::size_t most) {
  DrawnRanks drawn;
  if (trace.size() <= most) {
    drawn.ranks = spaced_ranks(trace.size(), most);
    return drawn;
  }
  const auto width = static_cast<std::size_t>(pp);
  std::vector<std::size_t> pipelines(trace.size() / width);
  std::vector<double> slowest(pipelines.size());
  for (std::size_t i = 0; i < pipelines.size() * width; ++i)
    slowest[i / width] = std::max(slowest[i / width], computed(trace[i]));
  std::iota(pipelines.begin(), pipelines.end(), std::size_t{0});
  std::stable_sort(pipelines.begin(), pipelines.end(),
                   [&](std::size_t a, std::size_t b) { return slowest[a] > slowest[b]; });
  const std::size_t all = pipelines.size();
  pipelines.resize(std::clamp<std::size_t>(most / width, 1, all));
  std::sort(pipelines.begin(), pipelines.end());
  for (const std::size_t pipeline : pipelines)
    for (const std::size_t rank : spaced_ranks(width, most)) drawn.ranks.push_back(pipeline * width + rank);

  drawn.notes.push_back(fmt::format("{} of {} ranks are drawn:", drawn.ranks.size(), trace.size()));
  if (width == 1) {
    drawn.notes.emplace_back("those that computed longest");
  } else if (width <= most) {
    drawn.notes.push_back(
        fmt::format("the {} of {} pipelines whose slowest rank computed longest", pipelines.size(), all));
  } else {
    drawn.notes.push_back(
        fmt::format("of {}, evenly spaced stages",
                    all == 1 ? "the pipeline" : "the pipeline whose slowest rank computed longest"));
  }
  return drawn;
}

}  // namespace foretoken

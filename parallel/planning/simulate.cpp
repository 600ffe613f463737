#include "parallel/planning/simulate.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "parallel/pipeline/replay.h"
#include "runtime/error.h"

namespace foretoken {

double duration_of(ActionKind kind, const StageDurations& stage) {
  switch (kind) {
    case ActionKind::forward:
      return stage.forward;
    case ActionKind::backward:
      return stage.backward();
    case ActionKind::backward_input:
      return stage.backward_input;
    case ActionKind::backward_weight:
      return stage.backward_weight;
    default:
      return 0;  // starting a message takes no time
  }
}

double SimulatedTimeline::makespan() const {
  double end = 0;
  for (const std::vector<Span>& spans : ranks)
    if (!spans.empty()) end = std::max(end, spans.back().end);
  return end;
}

double SimulatedTimeline::idle(int rank) const {
  double busy = 0;
  for (const Span& span : ranks[static_cast<std::size_t>(rank)]) busy += span.end - span.start;
  return makespan() - busy;
}

double SimulatedTimeline::bubble() const {
  const double total = makespan() * static_cast<double>(ranks.size());
  double idle_total = 0;
  for (int rank = 0; rank < static_cast<int>(ranks.size()); ++rank) idle_total += idle(rank);
  return total > 0 ? idle_total / total : 0;
}

Simulation::Simulation(const Program& lowered, const ProgramFootprint& footprint)
    : stages_(lowered.shape.stages()), ranks_(lowered.ranks.size()) {
  std::vector<std::vector<Place>> reached(
      ranks_);  // by rank and action: end of the last compute action so far
  const auto place_of = [&](const Position& position) {
    return reached[static_cast<std::size_t>(position.rank)][static_cast<std::size_t>(position.index)];
  };
  replay(lowered, footprint.slots, [&](const Position& position, const std::vector<Message>& awaited) {
    const auto rank = static_cast<std::size_t>(position.rank);
    const Action& action = lowered.ranks[rank][static_cast<std::size_t>(position.index)];
    Place place = reached[rank].empty() ? 0 : reached[rank].back();
    if (is_compute(action.kind)) {
      for (const Message& message : awaited)
        waits_.push_back({place_of(message.send), place_of(message.receive),
                          lowered.ranks[static_cast<std::size_t>(message.send.rank)]
                                       [static_cast<std::size_t>(message.send.index)]});
      steps_.push_back({action, position.rank, place, waits_.size()});
      place = steps_.size();
    }
    reached[rank].push_back(place);
  });
}

/// Calls visit(step, start, end) for each step, in the order of steps_.
template <class Visit>
void Simulation::run(const Durations& durations, const Visit& visit) const {
  if (durations.stages.size() != static_cast<std::size_t>(stages_))
    throw DefectError("simulate: durations of {} stages, but the program has {}", durations.stages.size(),
                      stages_);
  std::vector<double> ends{0.0};  // indexed by Place
  ends.reserve(steps_.size() + 1);
  auto wait = waits_.begin();
  for (const Step& step : steps_) {
    double start = ends[step.previous];
    for (const auto end = waits_.begin() + static_cast<std::ptrdiff_t>(step.waited); wait != end; ++wait)
      start = std::max(start, std::max(ends[wait->sender], ends[wait->receiver]) + durations.message);
    ends.push_back(
        start + duration_of(step.action.kind, durations.stages[static_cast<std::size_t>(step.action.stage)]));
    visit(step, start, ends.back());
  }
}

SimulatedTimeline Simulation::timeline(const Durations& durations) const {
  SimulatedTimeline timeline{std::vector<std::vector<Span>>(ranks_)};
  run(durations, [&](const Step& step, double start, double end) {
    timeline.ranks[static_cast<std::size_t>(step.rank)].push_back({step.action, start, end});
  });
  return timeline;
}

double Simulation::makespan(const Durations& durations) const {
  double last = 0;
  run(durations, [&](const Step&, double, double end) { last = std::max(last, end); });
  return last;
}

SimulatedTimeline simulate(const Program& lowered, const ProgramFootprint& footprint,
                           const Durations& durations) {
  return Simulation(lowered, footprint).timeline(durations);
}

std::string render(const SimulatedTimeline& timeline, int columns) {
  bool several_stages = false;
  for (const std::vector<Span>& spans : timeline.ranks)
    for (const Span& span : spans) several_stages |= span.action.stage != spans.front().action.stage;

  const double makespan = timeline.makespan();
  const double scale = makespan > 0 ? columns / makespan : 0;
  const int width = static_cast<int>(std::to_string(timeline.ranks.size() - 1).size());
  std::string text;
  for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
    std::string line(static_cast<std::size_t>(columns), '.');
    for (const Span& span : timeline.ranks[rank]) {
      const auto begin = static_cast<std::size_t>(std::lround(span.start * scale));
      const auto end = static_cast<std::size_t>(std::lround(span.end * scale));
      const std::string full = to_string(span.action);
      const std::size_t letter = full.find_first_not_of("0123456789");
      std::string label = several_stages ? full : full.substr(letter);
      if (label.size() >= end - begin) label = full.substr(letter, 1);
      label.resize(end - begin, ' ');
      line.replace(begin, end - begin, label);
    }
    text += fmt::format("rank {:>{}} |{}| idle {:.0f} %\n", rank, width, line,
                        makespan > 0 ? 100 * timeline.idle(static_cast<int>(rank)) / makespan : 0.0);
  }
  return text;
}

}  // namespace foretoken

#include "model/generation/draft_policy.h"

#include <algorithm>

namespace foretoken {

namespace {

constexpr int probe_rounds = 3;       // the first is not measured, two measure the time
constexpr int promising_rounds = 8;   // rounds of a probe whose drafts are accepted: enough to decide
constexpr int rounds_to_measure = 3;  // maximum number of repeated rounds at a depth not measured yet
constexpr double probe_share = 0.02;  // maximum share of all time that probes may lose
// Numbers of rounds between probes. While probes do not change the best depth, the interval doubles up to
// quiet_interval; the time that a probe may lose extends it up to longest_interval.
constexpr int quiet_interval = 192, longest_interval = 1024;

}  // namespace

DraftDecision DraftPolicy::decide(const DraftHistory& history) const {
  const int depth = history.depth, turn = history.probe_turn;
  if (costs_.deepest() == 0) return {.phase = DraftPhase::use_best, .depth = 0, .probe_turn = turn};
  if (!costs_.is_measured(trained_))
    return {.phase = DraftPhase::measure_trained, .depth = trained_, .probe_turn = turn};
  if (!costs_.is_measured(0)) return {.phase = DraftPhase::measure_depth_0, .depth = 0, .probe_turn = turn};
  const int rounds_of_probe = history.probe_is_promising ? promising_rounds : probe_rounds;
  if (history.is_probing() && history.repeats + 1 < rounds_of_probe)
    return {.phase = DraftPhase::continue_probe, .depth = depth, .probe_turn = turn};
  if (history.repeats == 0 || (history.repeats < rounds_to_measure && !costs_.is_measured(depth)))
    return {.phase = DraftPhase::repeat_depth, .depth = depth, .probe_turn = turn};
  const int best = best_depth(history.rounds);
  DraftDecision decision{.phase = DraftPhase::use_best, .depth = best, .best = best, .probe_turn = turn};
  while (probe_depth(decision.probe_turn, best) == best) ++decision.probe_turn;
  const int probe = probe_depth(decision.probe_turn, best);
  if (history.rounds_since_probe + 1 >= rounds_before_probe(best, probe, history.probe_interval)) {
    decision.phase = DraftPhase::start_probe;
    decision.depth = probe;
  }
  return decision;
}

DraftHistory DraftPolicy::advance(const DraftHistory& history, const DraftDecision& decision) {
  DraftHistory next = history;
  next.phase = decision.phase;
  next.repeats = decision.depth == history.depth ? history.repeats + 1 : 0;
  next.depth = decision.depth;
  next.probe_turn = decision.probe_turn;
  if (decision.phase == DraftPhase::repeat_depth || decision.phase == DraftPhase::use_best)
    ++next.rounds_since_probe;
  if (decision.phase != DraftPhase::start_probe) return next;
  next.probe_interval = decision.best == history.depth_before_probe
                            ? std::min(2 * history.probe_interval, quiet_interval)
                            : shortest_probe_interval;
  next.depth_before_probe = decision.best;
  ++next.probe_turn;
  next.rounds_since_probe = 0;
  next.probe_is_promising = false;
  return next;
}

/// The depth with the most tokens per second. Only the depths up to one beyond the deepest measured one are
/// considered, because estimates further out are unreliable. A depth that has never run is chosen only after
/// the rounds without it have lost more time than its first round costs.
int DraftPolicy::best_depth(int rounds) const {
  int best = 0, best_run = 0;
  for (int depth = 1; depth <= std::min(costs_.deepest_measured() + 1, costs_.deepest()); ++depth) {
    if (rate(depth) > rate(best)) best = depth;
    if (costs_.has_run(depth) && rate(depth) > rate(best_run)) best_run = depth;
  }
  const double lost = (rate(best) / rate(best_run) - 1) * rounds * costs_.seconds(best_run);
  return lost > costs_.preparation() ? best : best_run;
}

/// The depths to probe, in turn: best + 1, 0, and 2 · best + 2. The last one finds costs that fall again at
/// larger depths.
int DraftPolicy::probe_depth(int turn, int best) const {
  switch (turn % 3) {
    case 0:
      return std::min(best + 1, costs_.deepest());
    case 1:
      return 0;
    default:
      return std::min(2 * best + 2, costs_.deepest());
  }
}

/// Number of rounds between probes, such that a probe costs at most the share probe_share of the time even if
/// none of its deeper drafts is accepted.
int DraftPolicy::rounds_before_probe(int best, int probe, int interval) const {
  const double seconds = costs_.seconds(best);
  const double loss = costs_.seconds(probe) / seconds -
                      acceptances_.tokens(std::min(probe, best)) / acceptances_.tokens(best);
  const double lost = probe_rounds * loss + (costs_.has_run(probe) ? 0 : costs_.preparation() / seconds);
  return static_cast<int>(std::clamp<double>(lost / probe_share, interval, longest_interval));
}

}  // namespace foretoken

#include "launch/training/checkpoint_policy.h"

#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace foretoken {

namespace {

constexpr double shortest_staged_step = 0.25;  // seconds; mpirun leaves 1 s from SIGTERM to SIGKILL
constexpr int stage_share = 100;

}  // namespace

std::string stop_help(const CheckpointRules& rules) {
  std::vector<std::string> bounds;
  if (rules.every_steps > 0)
    bounds.push_back(fmt::format("{} step{}", rules.every_steps, rules.every_steps == 1 ? "" : "s"));
  if (rules.every.count() > 0) bounds.push_back(fmt::format("{:g} min", rules.every.count() / 60));
  return fmt::format(
      "SIGTERM, SIGINT, SIGHUP or SIGUSR1 to any rank stops the run after the current step, with a "
      "checkpoint; a kill loses {}",
      bounds.empty() ? "all steps since the launch: checkpoint.every and checkpoint.every_minutes are 0"
                     : fmt::format("at most {}", fmt::join(bounds, " or ")));
}

bool has_reached_stop_after(const CheckpointRules& rules, std::int64_t step) {
  return rules.stop_after > 0 && step >= rules.stop_after;
}

StepDecision decide(const CheckpointRules& rules, std::int64_t step, const RankVotes& votes) {
  StepDecision decision;
  const bool last = step == rules.last_step;
  decision.stop = !last && (votes.signalled > 0 || has_reached_stop_after(rules, step));
  decision.save = decision.stop || last || (rules.every_steps > 0 && step % rules.every_steps == 0) ||
                  votes.save_ready == votes.ranks;
  decision.stage = !decision.save && votes.stage_ready == votes.ranks;
  return decision;
}

bool CheckpointClock::save_ready(Clock::time_point now, bool busy) const {
  return rules_.every.count() > 0 && !busy && now - saved_ >= rules_.every;
}

bool CheckpointClock::stage_ready(Clock::time_point now, bool busy, double step_seconds) const {
  if (busy || step_seconds < shortest_staged_step) return false;
  return !staged_ || now - *staged_ >= stage_share * stage_cost_;
}

void CheckpointClock::staged(Clock::time_point begin, Clock::time_point end) {
  staged_ = end;
  stage_cost_ = end - begin;
}

}  // namespace foretoken

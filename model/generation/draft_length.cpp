#include "model/generation/draft_length.h"

#include <algorithm>
#include <chrono>

#include "runtime/error.h"

namespace foretoken {

namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

DraftLength::DraftLength(int longest, int trained) : DraftLength(longest, trained, seconds_now) {}

DraftLength::DraftLength(int longest, int trained, Clock clock)
    : clock_(std::move(clock)),
      costs_(longest),
      acceptances_(longest),
      policy_(costs_, acceptances_, std::min(trained, longest)) {}

int DraftLength::begin_round(std::size_t texts) {
  costs_.begin_round(texts);
  const DraftDecision decision = policy_.decide(history_);
  history_ = DraftPolicy::advance(history_, decision);
  if (decision.phase == DraftPhase::start_probe)
    acceptances_.reduce_weight(decision.best + 1, decision.depth);
  drafted_as_chosen_ = decision.depth == 0;
  round_start_ = clock_();
  return decision.depth;
}

void DraftLength::record_acceptance(std::size_t depth, std::size_t accepted) {
  drafted_as_chosen_ = static_cast<int>(depth) == history_.depth;
  history_.probe_is_promising =
      history_.probe_is_promising || static_cast<int>(accepted) > history_.depth_before_probe;
  acceptances_.record(depth, accepted);
}

void DraftLength::end_round() {
  if (history_.depth < 0) throw DefectError("draft length: a round ended before any had started");
  ++history_.rounds;
  costs_.record_round(history_.depth, clock_() - round_start_, drafted_as_chosen_ && history_.repeats > 0);
}

}  // namespace foretoken

#pragma once
// Chooses how deep to draft, so that speculation is as fast as possible and never costs more than it gains.
// Let aⱼ be the share of drafts of depth j that are accepted if all shallower ones were, and
// s(k) the seconds of a round that drafts and verifies k deep; both are measured during generation. The
// chosen depth is the k with the largest
//
//   tokens(k) / s(k),   tokens(k) = 1 + Σⱼ₌₁ᵏ a₁ · … · aⱼ
//
// (with one a for all depths (1 − aᵏ⁺¹) / (1 − a), as in Leviathan et al., arXiv 2211.17192); k = 0 is plain
// generation. Times are measured by DraftCosts, shares by DraftAcceptances, and DraftPolicy decides.
//
// The first rounds draft at the trained depth, then plainly, to measure both times. Other depths are probed
// for a few rounds at intervals; the more time a failed probe would lose, the longer the interval. On a GPU
// the first round of a depth is expensive, because kernels are loaded and graphs recorded. The choice depends
// on earlier rounds and on time alone, so sampling stays lossless; with sampled tokens, however, the same
// seed may give another text.

#include <functional>

#include "model/generation/draft_policy.h"

namespace foretoken {

class DraftLength {
 public:
  using Clock = std::function<double()>;  // seconds since an arbitrary start
  /// Chooses depths 0 to `longest`, starting with `trained`.
  DraftLength(int longest, int trained, Clock clock);
  /// Uses the steady clock.
  DraftLength(int longest, int trained);
  DraftLength(const DraftLength&) = delete;
  DraftLength& operator=(const DraftLength&) = delete;

  /// Returns the depth of the round that starts now, with `texts` sequences.
  int begin_round(std::size_t texts);
  /// Records that one sequence drafted `depth` tokens this round and `accepted` of them were kept.
  void record_acceptance(std::size_t depth, std::size_t accepted);
  void end_round();

 private:
  Clock clock_;
  DraftCosts costs_;
  DraftAcceptances acceptances_;
  DraftPolicy policy_;  // over costs_ and acceptances_
  DraftHistory history_;
  double round_start_ = 0;
  bool drafted_as_chosen_ = false;  // the newest text of the round drafted as deep as was chosen
};

}  // namespace foretoken

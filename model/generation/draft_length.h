#pragma once
// Chooses the draft depth with the most tokens per second, so that speculation does not slow generation down.
// Let aⱼ be the share of drafts of depth j that are accepted where all shallower drafts were, and s(k) the
// seconds of a round with draft depth k. Both are measured during generation. The chosen depth is the k with
// the largest
//
//   tokens(k) / s(k),   tokens(k) = 1 + Σⱼ₌₁ᵏ a₁ · … · aⱼ
//
// If all aⱼ equal a, tokens(k) = (1 − aᵏ⁺¹) / (1 − a), as in Leviathan et al., arXiv 2211.17192. k = 0 means
// no drafts. DraftCosts measures times, DraftAcceptances shares, and DraftPolicy decides.
//
// The first rounds draft at the trained depth, the next ones at depth 0, to measure both times. Other depths
// are probed for a few rounds at intervals; the more time a failed probe would lose, the longer the interval.
// On a GPU the first round of a depth is expensive, because it loads kernels and captures CUDA graphs. The
// choice depends only on earlier rounds and on time, so sampling stays lossless. With sampled tokens,
// however, the same seed may give another text.

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
  bool drafted_as_chosen_ = false;  // the last recorded text of the round drafted at the chosen depth
};

}  // namespace foretoken

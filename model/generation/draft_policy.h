#pragma once
// Decides the draft depth of the next round from the measured times and acceptances and from the history of
// rounds. It has no state: DraftLength (model/generation/draft_length.h) keeps the history.
//
// The trained depth is measured first, then depth 0. After that the best depth is used. Other depths are
// probed at intervals, because acceptance changes with the text.

#include "model/generation/draft_acceptances.h"
#include "model/generation/draft_costs.h"

namespace foretoken {

enum class DraftPhase {
  measure_trained,  // the trained depth is not measured yet
  measure_depth_0,  // depth 0 is not measured yet
  repeat_depth,     // one more round at the same depth: the first round after a change is not measured
  use_best,         // the depth with the most tokens per second
  start_probe,      // the first round of a probe of another depth
  continue_probe,
};

/// Minimum number of rounds between probes while probes change the best depth.
inline constexpr int shortest_probe_interval = 32;

struct DraftHistory {
  DraftPhase phase = DraftPhase::measure_trained;  // phase of the newest round
  int depth = -1;                                  // draft depth of the newest round; −1 before the first
  int repeats = 0;                                 // rounds at this depth directly before the newest round
  int rounds = 0;                                  // number of finished rounds
  int probe_turn = 0;                              // selects the depth of the next probe
  int rounds_since_probe = 0;
  int depth_before_probe = -1;                   // the best depth when the newest probe started
  int probe_interval = shortest_probe_interval;  // minimum number of rounds before the next probe
  bool probe_is_promising = false;  // drafts of the probe beyond depth_before_probe were accepted

  bool is_probing() const { return phase == DraftPhase::start_probe || phase == DraftPhase::continue_probe; }
};

struct DraftDecision {
  DraftPhase phase = DraftPhase::use_best;
  int depth = 0;
  int best = 0;        // in use_best and start_probe: the depth with the most tokens per second
  int probe_turn = 0;  // DraftHistory::probe_turn, advanced past turns that would probe the best depth
};

class DraftPolicy {
 public:
  /// `costs` and `acceptances` must outlive the policy; costs.deepest() is the largest depth. `trained` is
  /// the depth that is measured first.
  DraftPolicy(const DraftCosts& costs, const DraftAcceptances& acceptances, int trained)
      : costs_(costs), acceptances_(acceptances), trained_(trained) {}

  DraftDecision decide(const DraftHistory& history) const;
  /// The history after a round with this decision has started.
  static DraftHistory advance(const DraftHistory& history, const DraftDecision& decision);

 private:
  double rate(int depth) const { return acceptances_.tokens(depth) / costs_.seconds(depth); }
  int best_depth(int rounds) const;
  int probe_depth(int turn, int best) const;
  int rounds_before_probe(int best, int probe, int interval) const;

  const DraftCosts& costs_;
  const DraftAcceptances& acceptances_;
  int trained_;
};

}  // namespace foretoken

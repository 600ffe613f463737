#pragma once
// Chooses how deep to draft, so that speculation is as fast as possible and never costs more than it gains.
// Let aⱼ be the share of drafts of depth j that are accepted if all shallower ones were, and
// s(k) the seconds of a round that drafts and verifies k deep; both are measured during generation. The
// chosen depth is the k with the largest
//
//   tokens(k) / s(k),   tokens(k) = 1 + Σⱼ₌₁ᵏ a₁ · … · aⱼ
//
// (with one a for all depths (1 − aᵏ⁺¹) / (1 − a), as in Leviathan et al., arXiv 2211.17192); k = 0 is plain
// generation. The first rounds draft at the trained depth, then plainly, to measure both times. Other depths
// are probed for a few rounds at intervals; the more time a failed probe would lose, the longer the
// interval. On a GPU the first round of a depth is expensive, because kernels are loaded and graphs
// recorded. A depth that was never run is therefore chosen only after the rounds without it have lost that
// much time. The choice depends on earlier rounds and on time alone, so sampling stays lossless; with
// sampled tokens, however, the same seed may give another text.

#include <cstddef>
#include <functional>
#include <vector>

namespace foretoken {

class DraftLength {
 public:
  using Clock = std::function<double()>;  // seconds since an arbitrary start
  /// Chooses depths 0 to `longest`, starting with `trained`.
  DraftLength(int longest, int trained, Clock clock);
  /// Uses the steady clock.
  DraftLength(int longest, int trained);

  /// Returns the depth of the round that starts now, with `texts` sequences.
  int begin_round(std::size_t texts);
  /// Records that one sequence drafted `depth` tokens this round and `accepted` of them were kept.
  void learn(std::size_t depth, std::size_t accepted);
  void end_round();

 private:
  struct Cost {
    double seconds = 0;
    int times = 0;      // measurements, up to a few
    double first = -1;  // seconds of its first round; negative: it has not been run
  };
  struct Acceptance {
    double accepted = 0, seen = 0;
  };
  int choose();
  int best() const;
  void begin_probe(int usual, int depth);
  int next_probe(int usual);
  int rounds_before_probe(int usual, int depth) const;
  bool known(int depth) const;
  bool begun(int depth) const;
  double seconds(int depth) const;
  double tokens(int depth) const;
  double rate(int depth) const;
  void take_time(double seconds);

  int longest_, trained_;
  Clock clock_;
  std::vector<Cost> costs_;             // by depth
  std::vector<Acceptance> acceptance_;  // by depth; entry 0 is unused
  double preparation_ = 0;              // time that the first round of a depth took in addition
  int rounds_ = 0;
  int depth_ = -1;
  int repeated_ = 0;  // consecutive earlier rounds at this depth
  int usual_ = -1;    // the best depth before the last probe
  bool probing_ = false;
  bool promising_ = false;  // drafts of the probe beyond the usual depth were accepted
  int interval_;            // minimum number of rounds between probes
  int since_probe_ = 0;     // in rounds
  int probed_ = 0;          // number of probes
  std::size_t texts_ = 0;
  bool rescale_ = false;  // the number of texts has changed, and all costs with it
  double begin_ = 0;
  bool timed_ = false;
};

}  // namespace foretoken

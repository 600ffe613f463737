#pragma once
// How deep to draft, so that speculation gains what it can and never costs more than it gains. With aⱼ the
// share of drafts of depth j that are accepted where those before them were, and s(k) the seconds of a round
// that drafts and verifies k deep, all measured while text is generated, the depth is the k that has the most
//
//   tokens(k) / s(k),   tokens(k) = 1 + Σⱼ₌₁ᵏ a₁ · … · aⱼ
//
// (with one a for all depths (1 − aᵏ⁺¹) / (1 − a), as in Leviathan et al., arXiv 2211.17192); k = 0 is plain
// generation. Trained depths come first, and plain rounds, both for their times. Other depths are probed for
// a few rounds now and then, the more seldom the more that loses where their drafts are not accepted. On a
// GPU the first round of a depth is dear, for kernels are loaded and graphs recorded: what promises more is
// begun once the rounds without it have lost as much. The choice rests on earlier rounds and on time alone,
// so that sampling stays lossless; but where tokens are sampled the same seed may give another text.

#include <cstddef>
#include <functional>
#include <vector>

namespace foretoken {

class DraftLength {
 public:
  using Clock = std::function<double()>;  // seconds, from whenever
  /// Chooses 0 to `longest`, at first `trained`.
  DraftLength(int longest, int trained, Clock clock);
  /// Of the computer's own time.
  DraftLength(int longest, int trained);

  /// The depth of the round that begins, for so many texts.
  int begin_round(std::size_t texts);
  /// A text of the round had drafts so deep, of which so many were accepted.
  void learn(std::size_t depth, std::size_t accepted);
  void end_round();

 private:
  struct Cost {
    double seconds = 0;
    int times = 0;      // that were taken, up to a few
    double first = -1;  // seconds of its first round; negative: none has been
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
  std::vector<Acceptance> acceptance_;  // by depth; 0 is not used
  double preparation_ = 0;              // seconds more that the first round of a depth took
  int rounds_ = 0;
  int depth_ = -1;
  int repeated_ = 0;  // rounds before this one with this depth
  int usual_ = -1;    // what was best before the last probe
  bool probing_ = false;
  bool promising_ = false;  // the probe's drafts beyond the usual depth were accepted
  int interval_;            // rounds from probe to probe, at least
  int since_probe_ = 0;     // rounds
  int probed_ = 0;          // probes so far
  std::size_t texts_ = 0;
  bool rescale_ = false;  // the number of texts has changed, and with it all costs
  double begin_ = 0;
  bool timed_ = false;
};

}  // namespace foretoken

#pragma once
// Measured seconds of a generation round, by draft depth.

#include <cstddef>
#include <vector>

namespace foretoken {

class DraftCosts {
 public:
  /// For depths 0 to `deepest`.
  explicit DraftCosts(int deepest) : costs_(static_cast<std::size_t>(deepest) + 1) {}

  /// Starts a round of `texts` sequences. If their number has changed, the times of all depths have changed
  /// too: the next measured round rescales them all.
  void begin_round(std::size_t texts);
  /// Records that a round of this depth took `seconds`. `representative` is whether the texts drafted at this
  /// depth in this round and in the previous one. Other rounds do not count, because the drafter may also
  /// have computed tokens that it had skipped. The first round of a depth does not count, because it prepares
  /// kernels.
  void record_round(int depth, double seconds, bool representative);

  int deepest() const { return static_cast<int>(costs_.size()) - 1; }
  bool has_run(int depth) const { return at(depth).first_round >= 0; }
  bool is_measured(int depth) const;
  int deepest_measured() const;
  /// The measured time. An unmeasured depth's time is interpolated between the nearest measured depths, or
  /// extrapolated from the two nearest shallower ones. Depth 0 must have been measured.
  double seconds(int depth) const;
  /// Estimate of the additional seconds that the first round of a depth takes.
  double preparation() const { return preparation_; }

 private:
  struct Cost {
    double seconds = 0;
    int measurements = 0;     // not counted any further after the first few
    double first_round = -1;  // seconds; negative: the depth has not run
  };
  const Cost& at(int depth) const { return costs_[static_cast<std::size_t>(depth)]; }
  void measure(Cost& cost, double seconds);

  std::vector<Cost> costs_;  // by depth
  double preparation_ = 0;
  std::size_t texts_ = 0;
  bool rescales_ = false;
};

}  // namespace foretoken

#pragma once
// Seconds of a generation round by draft depth, as measured.

#include <cstddef>
#include <vector>

namespace foretoken {

class DraftCosts {
 public:
  /// For depths 0 to `deepest`.
  explicit DraftCosts(int deepest) : costs_(static_cast<std::size_t>(deepest) + 1) {}

  /// A round of `texts` sequences starts. If their number has changed, so has the time of every depth: the
  /// next measured round rescales all times.
  void begin_round(std::size_t texts);
  /// A round of this depth took `seconds`. Its time is a measurement only if `representative`: if the texts
  /// drafted at this depth, and the round before did too. Otherwise the drafter may have caught up with
  /// tokens it had not seen. The first round of a depth is never a measurement, because kernels are prepared.
  void record_round(int depth, double seconds, bool representative);

  int deepest() const { return static_cast<int>(costs_.size()) - 1; }
  bool has_run(int depth) const { return at(depth).first_round >= 0; }
  bool is_measured(int depth) const;
  int deepest_measured() const;
  /// The measured time. If there is none, it is interpolated between the nearest measured depths, or
  /// extrapolated from the two nearest shallower ones. Depth 0 must have been measured.
  double seconds(int depth) const;
  /// Additional seconds of the first round of a depth.
  double preparation() const { return preparation_; }

 private:
  struct Cost {
    double seconds = 0;
    int measurements = 0;     // up to a few
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

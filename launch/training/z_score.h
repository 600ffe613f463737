#pragma once
// Measures how unusual a number is: (x − mean) / standard deviation over a window of recent numbers.

#include <cstddef>
#include <deque>
#include <optional>

namespace foretoken {

class ZScore {
 public:
  static constexpr std::size_t window = 128;  // recent numbers that are used
  static constexpr std::size_t fewest = 16;   // minimum for a score

  /// Empty if too few numbers were added, if they are all equal, or if x is not finite.
  std::optional<double> of(double x) const;
  /// Adds x to the window, unless it is not finite.
  void add(double x);

 private:
  std::deque<double> recent_;
};

}  // namespace foretoken

#pragma once
// How unusual a number is among those before it: (x − mean) / deviation over a window of recent ones.

#include <cstddef>
#include <deque>
#include <optional>

namespace foretoken {

class ZScore {
 public:
  static constexpr std::size_t window = 128;  // recent numbers that count
  static constexpr std::size_t fewest = 16;   // before them there is no score

  /// Nothing where too few numbers came before, where they are all the same, or where x is not finite.
  std::optional<double> of(double x) const;
  /// Counts from now on, unless it is not finite.
  void add(double x);

 private:
  std::deque<double> recent_;
};

}  // namespace foretoken

#include "runtime/median.h"

#include <algorithm>
#include <cstddef>

namespace foretoken {

namespace {

/// The value at `index` in ascending order.
double nth(std::vector<double>& values, std::size_t index) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(index);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

}  // namespace

double lower_median(std::vector<double> values) {
  return nth(values, (values.size() - 1) / 2);
}

double upper_median(std::vector<double> values) {
  return nth(values, values.size() / 2);
}

double median(std::vector<double> values) {
  const double upper = nth(values, values.size() / 2);
  return values.size() % 2 == 1 ? upper : (upper + nth(values, values.size() / 2 - 1)) / 2;
}

}  // namespace foretoken

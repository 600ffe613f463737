#pragma once
// Checks that samples follow a distribution.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/support/catch.h"

namespace foretoken::testing {

/// The value that chi-square exceeds with probability 1e−6 (Wilson & Hilferty, 1931).
inline double chi_square_bound(double freedom) {
  const double a = 2 / (9 * freedom);
  return freedom * std::pow(1 - a + 4.7534 * std::sqrt(a), 3);
}

/// Checks that `counts` are plausible for draws from p and that no token of probability 0 was drawn. All
/// tokens with fewer than five expected draws are one category of the test.
inline void check_counts(const std::vector<std::int64_t>& counts, const std::vector<double>& p) {
  double total = 0, chi_square = 0, freedom = -1, rare = 0, rare_expected = 0;
  for (const std::int64_t count : counts) total += static_cast<double>(count);
  const auto add = [&](double count, double expected) {
    chi_square += (count - expected) * (count - expected) / expected;
    ++freedom;
  };
  for (std::size_t i = 0; i < p.size(); ++i) {
    const auto count = static_cast<double>(counts[i]);
    if (p[i] == 0) CHECK(counts[i] == 0);
    if (total * p[i] >= 5) {
      add(count, total * p[i]);
    } else {
      rare += count;
      rare_expected += total * p[i];
    }
  }
  if (rare_expected > 0) add(rare, rare_expected);
  CHECK(chi_square < chi_square_bound(std::max(freedom, 1.0)));
}

}  // namespace foretoken::testing

#include "launch/doctor/units.h"

#include <array>
#include <cmath>

#include <fmt/format.h>

namespace foretoken {

namespace {

std::string three_digits(double value) {
  const double size = std::abs(value);
  return fmt::format("{:.{}f}", value, size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

}  // namespace

std::string scaled(double value, const char* unit) {
  constexpr std::array prefixes{"", "k", "M", "G", "T", "P"};
  std::size_t prefix = 0;
  while (std::abs(value) >= 999.5 && prefix + 1 < prefixes.size()) value /= 1000, ++prefix;
  return fmt::format("{} {}{}", three_digits(value), prefixes[prefix], unit);
}

std::string duration_text(double seconds) {
  const double size = std::abs(seconds);
  if (size < 1e-3) return fmt::format("{:.1f} µs", seconds * 1e6);
  if (size < 1) return fmt::format("{:.1f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

}  // namespace foretoken

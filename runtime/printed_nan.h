#pragma once

#include <cmath>
#include <limits>

namespace foretoken {

/// Returns x; for a NaN, the NaN that prints as "nan". On x86 an invalid operation gives one that prints as
/// "-nan".
inline double printed_nan(double x) {
  return std::isnan(x) ? std::numeric_limits<double>::quiet_NaN() : x;
}

}  // namespace foretoken

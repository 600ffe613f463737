#pragma once
// What a connection between two ranks costs. Plain data.

#include <limits>

namespace foretoken {

/// Carries messages in both directions at the same time, each direction at the full bandwidth. A message
/// takes latency + bytes / bandwidth.
struct Link {
  double latency = 0;                                          // s
  double bandwidth = std::numeric_limits<double>::infinity();  // bytes/s in each direction
};

}  // namespace foretoken

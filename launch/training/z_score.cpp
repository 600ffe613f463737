#include "launch/training/z_score.h"

#include <algorithm>
#include <cmath>

namespace foretoken {

std::optional<double> ZScore::of(double x) const {
  if (recent_.size() < fewest || !std::isfinite(x)) return std::nullopt;
  const auto [least, most] = std::minmax_element(recent_.begin(), recent_.end());
  if (*least == *most) return std::nullopt;
  const auto count = static_cast<double>(recent_.size());
  double mean = 0, variance = 0;
  for (const double each : recent_) mean += each / count;
  for (const double each : recent_) variance += (each - mean) * (each - mean) / count;
  return (x - mean) / std::sqrt(variance);
}

void ZScore::add(double x) {
  if (!std::isfinite(x)) return;
  recent_.push_back(x);
  if (recent_.size() > window) recent_.pop_front();
}

}  // namespace foretoken

#include "model/generation/draft_costs.h"

#include <algorithm>

namespace foretoken {

namespace {

// Weight of a new time in the moving average. A shorter time has more weight, because a round may be slow for
// reasons that have nothing to do with its depth.
constexpr double average_weight = 0.25;
constexpr double shorter_weight = 0.5;
// The shortest of a depth's first measurements counts, because kernels are still being prepared.
constexpr int first_measurements = 3;
constexpr int enough_measurements = 2;  // number after which a depth counts as measured
// A new time is capped at this multiple of the known time: any excess has other causes than the depth.
constexpr double longest_excess = 1.5;

}  // namespace

void DraftCosts::begin_round(std::size_t texts) {
  rescales_ = rescales_ || (texts_ != 0 && texts != texts_);
  texts_ = texts;
}

void DraftCosts::record_round(int depth, double seconds, bool representative) {
  Cost& cost = costs_[static_cast<std::size_t>(depth)];
  if (cost.first_round < 0)
    cost.first_round = seconds;
  else if (representative)
    measure(cost, seconds);
}

void DraftCosts::measure(Cost& cost, double seconds) {
  if (cost.measurements < first_measurements) {
    cost.seconds = cost.measurements == 0 ? seconds : std::min(cost.seconds, seconds);
    if (++cost.measurements == enough_measurements)
      preparation_ = std::max(cost.first_round - cost.seconds, 0.0);
  } else if (rescales_) {
    const double ratio = seconds / cost.seconds;
    for (Cost& each : costs_) each.seconds *= ratio;
  } else {
    const double capped = std::min(seconds, longest_excess * cost.seconds);
    cost.seconds += (capped < cost.seconds ? shorter_weight : average_weight) * (capped - cost.seconds);
  }
  rescales_ = false;
}

bool DraftCosts::is_measured(int depth) const {
  return at(depth).measurements >= enough_measurements;
}

int DraftCosts::deepest_measured() const {
  int depth = deepest();
  while (!is_measured(depth)) --depth;
  return depth;
}

double DraftCosts::seconds(int depth) const {
  if (is_measured(depth)) return at(depth).seconds;
  int shallower = depth, deeper = depth;
  while (!is_measured(shallower)) --shallower;
  while (deeper <= deepest() && !is_measured(deeper)) ++deeper;
  if (deeper > deepest()) {
    deeper = shallower;
    do --shallower;
    while (shallower > 0 && !is_measured(shallower));
    if (shallower < 0) return at(deeper).seconds;
  }
  return at(shallower).seconds +
         (at(deeper).seconds - at(shallower).seconds) * (depth - shallower) / (deeper - shallower);
}

}  // namespace foretoken

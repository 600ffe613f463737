#include "model/objective.h"

#include <limits>

#include "runtime/operators/cross_entropy_head.h"

namespace foretoken {

void add_target_counts(const MicrobatchInput& input, std::int64_t length, std::span<std::int64_t> counts) {
  for (std::size_t k = 0; k < counts.size(); ++k)
    counts[k] += count_targets({.tokens = input.tokens,
                                .document_start = input.document_start,
                                .ahead = static_cast<std::int64_t>(k) + 1},
                               length);
}

Objective::Objective(const MtpConfig& mtp) : weights_(static_cast<std::size_t>(mtp.depths) + 1) {
  weights_[0] = 1;
  for (std::size_t k = 1; k < weights_.size(); ++k)
    weights_[k] = mtp.loss_weight / static_cast<double>(mtp.depths);
}

std::vector<double> Objective::gradient_scales(std::span<const std::int64_t> counts) const {
  std::vector<double> scales(weights_.size());
  for (std::size_t k = 0; k < scales.size(); ++k)
    scales[k] = counts[k] > 0 ? weights_[k] / static_cast<double>(counts[k]) : 0;
  return scales;
}

Objective::Losses Objective::losses(std::span<const double> sums,
                                    std::span<const std::int64_t> counts) const {
  Losses losses;
  for (std::size_t k = 0; k < weights_.size(); ++k) {
    const bool any = counts[k] > 0;
    losses.depths.push_back(any ? sums[k] / static_cast<double>(counts[k])
                                : std::numeric_limits<double>::quiet_NaN());
    if (any) losses.total += weights_[k] * losses.depths.back();
  }
  return losses;
}

}  // namespace foretoken

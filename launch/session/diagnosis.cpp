#include "launch/session/diagnosis.h"

#include <cmath>

namespace foretoken {

HeadsMetrics heads_metrics(const StepSums& sums, bool gradients) {
  HeadsMetrics metrics;
  const auto drafts = sums.drafts.span<double>(), accepted = sums.accepted.span<double>();
  for (std::size_t k = 0; k < drafts.size(); ++k) {
    metrics.acceptance.push_back(accepted[k] / drafts[k]);  // NaN if nothing was drafted
    if (drafts[k] > 0) metrics.accepted_length += metrics.acceptance.back();
  }
  if (!gradients) return metrics;
  for (const double square : sums.squares.span<double>()) metrics.trunk_norms.push_back(std::sqrt(square));
  const auto products = sums.products.span<double>();
  for (std::size_t k = 0; k < products.size(); ++k)
    metrics.trunk_cosines.push_back(products[k] / (metrics.trunk_norms[0] * metrics.trunk_norms[k + 1]));
  return metrics;
}

}  // namespace foretoken

#pragma once
// The training objective: L = L_main + (λ/D)·Σₖ Lₖ, every L a mean over the exact number of valid targets of
// its depth in the whole global batch, so that it does not depend on the layout.

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/layer_context.h"

namespace foretoken {

/// counts[k] += valid targets of depth k = 0..D among the microbatch's first T positions.
void add_target_counts(const MicrobatchInput& input, std::int64_t length, std::span<std::int64_t> counts);

class Objective {
 public:
  explicit Objective(const MtpConfig& mtp);

  /// [D + 1]: 1 for the main loss, λ/D for each depth.
  std::span<const double> weights() const { return weights_; }
  /// [D + 1] weightₖ / counts[k], 0 where a depth has no target; counts are those of the whole global batch.
  std::vector<double> gradient_scales(std::span<const std::int64_t> counts) const;

  struct Losses {
    double total = 0;
    std::vector<double> depths;  // [D + 1] means; NaN where a depth has no target
  };
  /// From the sums over the whole global batch.
  Losses losses(std::span<const double> sums, std::span<const std::int64_t> counts) const;

 private:
  std::vector<double> weights_;
};

}  // namespace foretoken

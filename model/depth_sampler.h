#pragma once
// Training some depths per microbatch (`mtp.balance = "sampling"`), at the cost of those alone. Depth k runs
// with probability pₖ, its loss weighted by 1/pₖ, so the expected gradient is that of all depths:
//
//   E[ Σₖ 1(k runs) / pₖ · weightₖ ∇Lₖ ] = Σₖ weightₖ ∇Lₖ
//
// Modules in a chain need the shallower modules' forward. There one number u is drawn per microbatch and
// depth k runs where u < pₖ: the p do not rise with k, so what runs is the chain up to some depth, reached
// with probability pₖ, and no module runs whose loss is not taken. Other heads are drawn each by a number of
// its own.

#include <span>

#include "model/config.h"
#include "model/layer_context.h"
#include "runtime/random.h"

namespace foretoken {

class DepthSampler {
 public:
  DepthSampler(const MtpConfig& mtp, std::uint64_t seed);

  /// Of the microbatch whose first row is this global sample: the same in every layout, and when a run goes
  /// on.
  DepthSet draw(std::int64_t sample) const;
  /// scales [D + 1]: each depth's is divided by its probability.
  void weigh(std::span<double> scales) const;

 private:
  bool chain_;
  std::vector<double> probabilities_;
  CounterRng rng_;
};

}  // namespace foretoken

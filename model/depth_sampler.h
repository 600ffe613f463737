#pragma once
// Trains a random subset of the depths in each microbatch (`mtp.balance = "sampling"`). The other depths cost
// nothing. Depth k runs with probability pₖ and its loss is weighted by 1/pₖ, so the expected gradient equals
// the gradient of training all depths:
//
//   E[ Σₖ 1(k runs) / pₖ · weightₖ ∇Lₖ ] = Σₖ weightₖ ∇Lₖ
//
// Modules in a chain need the forward of the shallower modules. For them one random number u is drawn per
// microbatch, and depth k runs if u < pₖ. The pₖ do not increase with k, so the depths that run are a prefix
// of the chain, and every module that runs also contributes its loss. For other kinds of heads each depth has
// a random number of its own.

#include <span>

#include "model/config.h"
#include "model/layer_context.h"
#include "runtime/random.h"

namespace foretoken {

class DepthSampler {
 public:
  DepthSampler(const MtpConfig& mtp, std::uint64_t seed);

  /// The depths of the microbatch whose first row is this global sample. The result depends on the seed and
  /// the sample only, so it is the same in every layout and after a resume.
  DepthSet draw(std::int64_t sample) const;
  /// Divides each depth's entry of scales [D + 1] by its probability.
  void weigh(std::span<double> scales) const;

 private:
  bool chain_;
  std::vector<double> probabilities_;
  CounterRng rng_;
};

}  // namespace foretoken

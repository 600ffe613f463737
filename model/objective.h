#pragma once
// The training objective: L = main_weight · L₀ + Σₖ weightₖ · Lₖ, L₀ the main loss and every L a mean over
// the exact number of valid targets of its depth in the whole global batch, so that it does not depend on the
// layout.
//
//   weightₖ = baseₖ · factor(tokens seen) · balanceₖ, k > 0
//
//   base      mean              λ / D                       (DeepSeek-V3, arXiv 2412.19437, eq. 25)
//             per_depth         a list
//             inverse_distance  auxiliary_factor / (k + 1)  depth k predicts k + 1 tokens ahead
//   factor    of points (tokens, factor): that of the last point reached (constant), or on the line between
//             the points around (linear; two points at the same tokens are a jump). The first point's before
//             it, the last one's after it. Tokens are those seen before the step.
//   balance   1, unless weights are balanced dynamically: rebalance()

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/layer_context.h"

namespace foretoken {

/// counts[k] += valid targets of depth k = 0..D among the microbatch's first T positions.
void add_target_counts(const MicrobatchInput& input, std::int64_t length, std::span<std::int64_t> counts);

/// A UsageError naming what of the objective's settings makes no sense: lists that are not of D entries, a
/// schedule that goes back, probabilities that a chain of modules cannot have.
void validate_objective(const MtpConfig& mtp);

class Objective {
 public:
  explicit Objective(const MtpConfig& mtp);

  /// Moves on to the step that begins after so many tokens were seen.
  void set_tokens_seen(std::int64_t tokens);

  /// [D + 1]: 1 for the main loss, then each depth's weight.
  std::span<const double> weights() const { return weights_; }
  /// [D + 1] weightₖ / counts[k], 0 where a depth has no target; counts are those of the whole global batch.
  std::vector<double> gradient_scales(std::span<const std::int64_t> counts) const;

  struct Losses {
    double total = 0;
    std::vector<double> depths;  // [D + 1] means; NaN where a depth has no target
  };
  /// From the sums over the whole global batch.
  Losses losses(std::span<const double> sums, std::span<const std::int64_t> counts) const;

  /// [D] the state of dynamic balance; a checkpoint keeps it.
  std::span<const double> balance() const { return balance_; }
  /// A DefectError where they are not one for each depth.
  void restore_balance(std::span<const double> balance);
  /// Moves each depth's weight so that its gradient norm at the trunk comes to `balance_ratio` times the main
  /// loss's. norms [D + 1] are those of this step, weights included:
  ///
  ///   balanceₖ ← balanceₖ · clamp( √(balance_ratio · norm₀ / normₖ), ½, 2 )      within [1/1024, 1024]
  ///
  /// normₖ is proportional to weightₖ, so with gradients that stay as they are the distance to the ratio in
  /// logarithms halves with every call: no overshoot. The root averages noise of single batches, the clamp
  /// bounds what one of them can do. A depth whose norm is 0 or not finite stays where it is. After GradNorm
  /// (Chen et al., arXiv 1711.02257), which descends on the same distance by gradient; here the step is
  /// known.
  void rebalance(std::span<const double> norms);

 private:
  void update_weights();

  MtpConfig mtp_;
  double factor_ = 1;
  std::vector<double> balance_;
  std::vector<double> weights_;
};

}  // namespace foretoken

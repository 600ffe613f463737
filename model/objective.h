#pragma once
// The training objective: L = main_weight · L₀ + Σₖ weightₖ · Lₖ, L₀ the main loss. Each Lₖ is the mean over
// the exact number of valid targets of its depth in the whole global batch, so it does not depend on the
// layout.
//
//   weightₖ = baseₖ · factor(tokens seen) · balanceₖ, k > 0
//
//   base      mean              λ / D                       (DeepSeek-V3, arXiv 2412.19437, eq. 25)
//             per_depth         a list
//             inverse_distance  auxiliary_factor / (k + 1)  depth k predicts k + 1 tokens ahead
//   factor    a schedule of points (tokens, factor), read at the number of tokens seen before the step.
//             constant: the factor of the last point reached. linear: interpolated between the two nearest
//             points; two points at the same number of tokens make a jump. Before the first point the
//             first factor applies, after the last point the last factor.
//   balance   1, unless weights are balanced dynamically: rebalance()

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/layer_context.h"

namespace foretoken {

/// counts[k] += valid targets of depth k = 0..D among the microbatch's first T positions.
void add_target_counts(const MicrobatchInput& input, std::int64_t length, std::span<std::int64_t> counts);

/// Throws a UsageError that names the invalid setting: a list that does not have D entries, a schedule whose
/// tokens decrease, sampling probabilities that increase along a chain of modules, or dynamic balance without
/// the measurements that it needs.
void validate_objective(const MtpConfig& mtp);

class Objective {
 public:
  explicit Objective(const MtpConfig& mtp);

  /// Updates the weights for the step that starts after `tokens` tokens were seen.
  void set_tokens_seen(std::int64_t tokens);

  /// [D + 1]: main_weight, then each depth's weight.
  std::span<const double> weights() const { return weights_; }
  /// [D + 1] weightₖ / counts[k], 0 if a depth has no target; counts are totals over the whole global batch.
  std::vector<double> gradient_scales(std::span<const std::int64_t> counts) const;

  struct Losses {
    double total = 0;
    std::vector<double> depths;  // [D + 1] means; NaN if a depth has no target
  };
  /// Computes the losses from sums and counts over the whole global batch.
  Losses losses(std::span<const double> sums, std::span<const std::int64_t> counts) const;

  /// [D] factors of dynamic balance; a checkpoint stores them.
  std::span<const double> balance() const { return balance_; }
  /// Throws a DefectError unless there is one factor per depth.
  void restore_balance(std::span<const double> balance);
  /// Updates each depth's weight so that its gradient norm at the trunk approaches `balance_ratio` times the
  /// main loss's. norms [D + 1] are the norms of this step's weighted losses:
  ///
  ///   balanceₖ ← balanceₖ · clamp( √(balance_ratio · norm₀ / normₖ), ½, 2 )      within [1/1024, 1024]
  ///
  /// normₖ is proportional to weightₖ. With constant gradients each call therefore halves the logarithmic
  /// distance to the ratio, without overshoot. The square root averages the noise of single batches; the
  /// clamp bounds the effect of one batch. A depth whose norm is 0 or not finite keeps its factor. After
  /// GradNorm (Chen et al., arXiv 1711.02257), which minimizes the same distance by gradient descent; this
  /// update has a closed form.
  void rebalance(std::span<const double> norms);

 private:
  void update_weights();

  MtpConfig mtp_;
  double factor_ = 1;
  std::vector<double> balance_;
  std::vector<double> weights_;
};

}  // namespace foretoken

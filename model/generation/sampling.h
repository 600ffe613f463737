#pragma once
// Chooses tokens from logits, on the host. A distribution is computed first and a token is then drawn from
// it, so that speculative decoding can compare the distributions of model and drafter. In greedy decoding one
// token has probability 1.

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/random.h"

namespace foretoken {

/// Options are applied in the order of the members, as in Hugging Face's generate(). The probabilities that
/// remain are renormalised.
struct SamplingOptions {
  /// The logit l of a token that is already in the text becomes l / penalty if l > 0, else l · penalty
  /// (Keskar et al., "CTRL", arXiv 1909.05858, section 4.1). 1: no penalty.
  double repetition_penalty = 1;
  double temperature = 1;  // p ∝ exp(l / temperature); 0: the likeliest token, of equals the lowest id
  std::int64_t top_k = 0;  // keeps the k likeliest tokens and all with the k-th one's logit; 0: keeps all
  double top_p = 1;  // keeps the fewest likeliest tokens with Σ p ≥ top_p (Holtzman et al., arXiv 1904.09751)
  double min_p = 0;  // keeps tokens with p ≥ min_p · largest p (Nguyen et al., arXiv 2407.01082)
};

/// Throws a UsageError that names the option and its bounds.
void validate(const SamplingOptions& options);

/// Computes the distribution [V] of the token that follows `text`. Throws a NumericalError if a logit is not
/// a number or the largest is not finite.
void distribution(std::span<const float> logits, std::span<const std::int32_t> text,
                  const SamplingOptions& options, std::vector<double>& p);
std::vector<double> distribution(std::span<const float> logits, std::span<const std::int32_t> text,
                                 const SamplingOptions& options);

/// Applies the repetition penalty to the logits.
void penalise(std::span<float> logits, std::span<const std::int32_t> text, double penalty);

/// The token with the largest logit, of equals the lowest id: the token that temperature 0 chooses. Throws as
/// distribution() does.
std::int32_t likeliest(std::span<const float> logits);
/// The `count` likeliest tokens, likeliest first; of equals the lowest id comes first.
void likeliest_of(std::span<const float> logits, std::size_t count, std::vector<std::int32_t>& tokens);

double sum_of(std::span<const double> weights);
void scale_to_one(std::span<double> weights);

/// The token at `u` in [0, 1) of the cumulative weights, which need not sum to 1; never a token of weight 0.
std::int32_t draw(std::span<const double> weights, double u);

/// Uniform random numbers that depend only on (seed, sequence, position), so a sequence's text does not
/// depend on the sequences that are generated with it.
class SequenceRng {
 public:
  SequenceRng(std::uint64_t seed, std::int64_t sequence);
  double token(std::int64_t position) const { return token_.uniform(index(position, 0)); }
  // One number for each draft of a position: to draw the draft, and to accept it.
  double draft(std::int64_t position, int child) const { return draft_.uniform(index(position, child)); }
  double accept(std::int64_t position, int child) const { return accept_.uniform(index(position, child)); }

 private:
  static std::uint64_t index(std::int64_t position, int child) {
    return static_cast<std::uint64_t>(position) << 8 | static_cast<std::uint64_t>(child);
  }
  CounterRng token_, draft_, accept_;
};

}  // namespace foretoken

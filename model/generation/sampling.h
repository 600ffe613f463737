#pragma once
// Chooses tokens from logits, on the host. A distribution is computed first and then drawn from, so that
// speculative decoding can compare the distributions of model and drafts; greedy decoding is a distribution
// with one token.

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/random.h"

namespace foretoken {

/// Applied in this order, as in Hugging Face's generate(). The remaining probabilities are renormalised.
struct SamplingOptions {
  /// Logits of tokens that are already in the text: l / penalty if l > 0, else l · penalty (Keskar et al.,
  /// "CTRL", arXiv 1909.05858, section 4.1). 1: no penalty.
  double repetition_penalty = 1;
  double temperature = 1;  // p ∝ exp(l / temperature); 0: the likeliest token, the first of equals
  std::int64_t top_k = 0;  // the k likeliest tokens and those equal to the last of them; 0: all
  double top_p = 1;  // the fewest likeliest tokens whose sum reaches it (Holtzman et al., arXiv 1904.09751)
  double min_p = 0;  // tokens of at least min_p times the largest p (Nguyen et al., arXiv 2407.01082)
};

/// Throws a UsageError that names the option and its bounds.
void validate(const SamplingOptions& options);

/// [V] distribution of the next token; `text` holds the tokens before it. Throws a NumericalError if a logit
/// is not a number or the largest is not finite.
void distribution(std::span<const float> logits, std::span<const std::int32_t> text,
                  const SamplingOptions& options, std::vector<double>& p);
std::vector<double> distribution(std::span<const float> logits, std::span<const std::int32_t> text,
                                 const SamplingOptions& options);

/// Applies the repetition penalty alone.
void penalise(std::span<float> logits, std::span<const std::int32_t> text, double penalty);

/// The token of the largest logit, the first of equals. At temperature 0 the whole distribution is on it.
/// Errors as for distribution().
std::int32_t likeliest(std::span<const float> logits);
/// The `count` likeliest tokens, likeliest first, the first of equals first.
void likeliest_of(std::span<const float> logits, std::size_t count, std::vector<std::int32_t>& tokens);

double sum_of(std::span<const double> weights);
void scale_to_one(std::span<double> weights);

/// The token at `u` in [0, 1) of the cumulative weights, which need not sum to 1; never a token of weight 0.
std::int32_t draw(std::span<const double> weights, double u);

/// Uniform numbers that depend on (seed, sequence, position) alone, so a sequence's text does not depend on
/// which sequences are generated with it.
class SequenceRng {
 public:
  SequenceRng(std::uint64_t seed, std::int64_t sequence);
  double token(std::int64_t position) const { return token_.uniform(index(position, 0)); }
  /// For the drafts of one position, drawn in turn.
  double draft(std::int64_t position, int child) const { return draft_.uniform(index(position, child)); }
  double accept(std::int64_t position, int child) const { return accept_.uniform(index(position, child)); }

 private:
  static std::uint64_t index(std::int64_t position, int child) {
    return static_cast<std::uint64_t>(position) << 8 | static_cast<std::uint64_t>(child);
  }
  CounterRng token_, draft_, accept_;
};

}  // namespace foretoken

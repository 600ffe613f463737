#pragma once
// From logits to a token, on the host. A distribution is made first and drawn from then, so that speculative
// decoding can compare those of model and drafts; greedy decoding is a distribution with one token.

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/random.h"

namespace foretoken {

/// Applied in this order, as Hugging Face's generate() does. What is left is renormalised.
struct SamplingOptions {
  /// Logits of tokens that the text holds already: l / penalty where l > 0, else l · penalty (Keskar et al.,
  /// "CTRL", arXiv 1909.05858, section 4.1). 1: none.
  double repetition_penalty = 1;
  double temperature = 1;  // p ∝ exp(l / temperature); 0: the likeliest token, the first of equals
  std::int64_t top_k = 0;  // the k likeliest, and those as likely as the last of them; 0: all
  double top_p = 1;  // the fewest likeliest whose probabilities reach it (Holtzman et al., arXiv 1904.09751)
  double min_p = 0;  // those of at least min_p times the likeliest's (Nguyen et al., arXiv 2407.01082)
};

/// A UsageError naming the option and its bounds.
void validate(const SamplingOptions& options);

/// [V] of the next token. `text`: the tokens before it. A NumericalError where a logit is not a number or the
/// largest is not finite.
void distribution(std::span<const float> logits, std::span<const std::int32_t> text,
                  const SamplingOptions& options, std::vector<double>& p);
std::vector<double> distribution(std::span<const float> logits, std::span<const std::int32_t> text,
                                 const SamplingOptions& options);

/// The repetition penalty alone.
void penalise(std::span<float> logits, std::span<const std::int32_t> text, double penalty);

/// The token of the largest logit, the first of equals: where the temperature is 0, all of the distribution.
/// Errors as above.
std::int32_t likeliest(std::span<const float> logits);
/// The `count` likeliest, likeliest first, the first of equals first.
void likeliest_of(std::span<const float> logits, std::size_t count, std::vector<std::int32_t>& tokens);

double sum_of(std::span<const double> weights);
void scale_to_one(std::span<double> weights);

/// The token at `u` in [0, 1) of the cumulated weights, which need not sum to 1; never one without weight.
std::int32_t draw(std::span<const double> weights, double u);

/// Uniform numbers that depend on nothing but (seed, sequence, position): a sequence's text does not depend
/// on what is generated beside it.
class SequenceRng {
 public:
  SequenceRng(std::uint64_t seed, std::int64_t sequence);
  double token(std::int64_t position) const { return token_.uniform(index(position, 0)); }
  /// Of the drafts for one position, drawn in turn.
  double draft(std::int64_t position, int child) const { return draft_.uniform(index(position, child)); }
  double accept(std::int64_t position, int child) const { return accept_.uniform(index(position, child)); }

 private:
  static std::uint64_t index(std::int64_t position, int child) {
    return static_cast<std::uint64_t>(position) << 8 | static_cast<std::uint64_t>(child);
  }
  CounterRng token_, draft_, accept_;
};

}  // namespace foretoken

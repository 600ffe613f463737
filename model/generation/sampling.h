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

/// [V] of the next token. `text`: the tokens before it. A NumericalError where a logit is NaN or none is
/// finite.
std::vector<double> distribution(std::span<const float> logits, std::span<const std::int32_t> text,
                                 const SamplingOptions& options);

/// The token at `u` in [0, 1) of the cumulated weights, which need not sum to 1; never one without weight.
std::int32_t draw(std::span<const double> weights, double u);

/// Uniform numbers that depend on nothing but (seed, sequence, position): a sequence's text does not depend
/// on what is generated beside it.
class SequenceRng {
 public:
  SequenceRng(std::uint64_t seed, std::int64_t sequence);
  double token(std::int64_t position) const { return token_.uniform(static_cast<std::uint64_t>(position)); }
  double draft(std::int64_t position) const { return draft_.uniform(static_cast<std::uint64_t>(position)); }
  double accept(std::int64_t position) const { return accept_.uniform(static_cast<std::uint64_t>(position)); }

 private:
  CounterRng token_, draft_, accept_;
};

/// A token that was drafted for some position.
struct Draft {
  std::int32_t token = 0;
  std::vector<double> distribution;  // [V] it was drawn from
};

struct Verdict {
  std::size_t accepted = 0;  // of the drafts, from the first on
  std::int32_t token = 0;    // the one after them
};

/// Speculative sampling (Leviathan et al., arXiv 2211.17192, algorithm 1): drafts stand for positions
/// first, first + 1, …; model[j], [drafts + 1] of [V], is what the model has for position first + j. Draft x
/// of distribution q is accepted with probability min(1, p(x) / q(x)); in place of the first that is not, a
/// token is drawn from max(p − q, 0); where all are accepted, one more from the model. The tokens are
/// distributed as if each had been drawn from the model.
Verdict verify(std::span<const Draft> drafts, std::span<const std::vector<double>> model,
               const SequenceRng& rng, std::int64_t first);

}  // namespace foretoken

#include "model/generation/sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "runtime/error.h"
#include "runtime/operators/vector_math.h"

namespace foretoken {

namespace {

constexpr double lowest = -std::numeric_limits<double>::infinity();

/// Elements [begin, begin + count), cut at the end of `all`.
template <class T>
std::span<T> block_at(std::span<T> all, std::size_t begin, std::size_t count) {
  return all.subspan(begin, std::min(count, all.size() - begin));
}

template <class T>
T largest_of(std::span<const T> values) {
  T largest = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : largest)
  for (std::size_t i = 0; i < values.size(); ++i) largest = values[i] > largest ? values[i] : largest;
  return largest;
}

/// Returns the largest logit. Throws unless it is finite and no logit is NaN.
float checked_largest(std::span<const float> logits) {
  float largest = -std::numeric_limits<float>::infinity(), nans = 0;
#pragma omp simd reduction(max : largest) reduction(+ : nans)
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float x = logits[i];
    largest = x > largest ? x : largest;
    nans += x != x ? 1.0F : 0.0F;
  }
  if (nans > 0) throw NumericalError("sampling: a logit of the model is not a number");
  if (!std::isfinite(largest)) throw NumericalError("sampling: the largest logit is {}", largest);
  return largest;
}

template <class T>
void penalise(std::span<T> logits, std::span<const std::int32_t> text, T penalty) {
  std::vector<bool> seen(logits.size());
  for (const std::int32_t token : text) {
    const auto i = static_cast<std::size_t>(token);
    if (i >= logits.size() || seen[i]) continue;
    seen[i] = true;
    logits[i] = logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;
  }
}

/// Replaces every logit l by exp((l − largest) / temperature), or by 0 if l < least. Blocks whose logits are
/// all below `least` need no exponentials.
void weigh(std::span<double> logits, double largest, double temperature, double least) {
  constexpr std::size_t block = 128;
  for (std::size_t begin = 0; begin < logits.size(); begin += block) {
    const std::span<double> part = block_at(logits, begin, block);
    if (least > lowest && largest_of<double>(part) < least) {
      std::fill(part.begin(), part.end(), 0.0);
      continue;
    }
#pragma omp simd
    for (std::size_t i = 0; i < part.size(); ++i)
      part[i] = part[i] >= least ? cpu::exp((part[i] - largest) / temperature) : 0;
  }
}

/// The k-th largest logit. At least k logits are as large as the k-th largest of the blocks' maxima, so only
/// blocks with a maximum of that size or more are searched.
double top_k_border(std::span<const double> logits, std::size_t k) {
  const std::size_t block = std::clamp(logits.size() / (8 * k), std::size_t{8}, std::size_t{64});
  const auto kth_of = [&](std::vector<double>& values) {
    const auto kth = values.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(values.begin(), kth, values.end(), std::greater<>());
    return *kth;
  };
  std::vector<double> largest;  // per block
  for (std::size_t begin = 0; begin < logits.size(); begin += block)
    largest.push_back(largest_of(block_at(logits, begin, block)));
  std::vector<double> best = largest;
  const double reached = best.size() < k ? lowest : kth_of(best);
  best.clear();
  for (std::size_t i = 0; i < largest.size(); ++i) {
    if (largest[i] < reached) continue;
    for (const double x : block_at(logits, i * block, block))
      if (x >= reached) best.push_back(x);
  }
  return kth_of(best);
}

struct Share {
  double sum = 0, tokens = 0;
};

/// Sum and number of the weights that are at least `least`.
Share share_from(std::span<const double> p, double least) {
  double sum = 0, tokens = 0;
#pragma omp simd reduction(+ : sum, tokens)
  for (std::size_t i = 0; i < p.size(); ++i) {
    sum += p[i] >= least ? p[i] : 0;
    tokens += p[i] >= least ? 1 : 0;
  }
  return {sum, tokens};
}

/// Considers the weights that are at least `least` and finds the fewest largest ones whose sum is at least
/// the fraction `mass` of their total; of equal weights the first ones are taken. Returns the smallest weight
/// taken; the caller drops smaller weights. A bisection over the weight narrows the border, so few need
/// sorting.
double keep_top_p(std::span<double> p, double least, double mass) {
  constexpr double few = 256;  // so few weights are sorted faster than another pass over all takes
  constexpr int most_halvings = 24;
  const Share all = share_from(p, least);
  const double wanted = mass * all.sum;
  // The weights below `low` sum to at most (1 − mass) of the total, so they may be dropped.
  double low = std::max(least, (1 - mass) * all.sum / all.tokens),
         high = std::numeric_limits<double>::infinity();
  Share from_low = share_from(p, low), from_high;
  for (int i = 0; i < most_halvings && from_low.tokens - from_high.tokens > few; ++i) {
    const double middle = std::sqrt(low * std::min(high, 1.0));
    const Share from_middle = share_from(p, middle);
    if (from_middle.sum >= wanted) {
      low = middle;
      from_low = from_middle;
    } else {
      high = middle;
      from_high = from_middle;
    }
  }
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < p.size(); ++i)
    if (p[i] >= low && p[i] < high) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
  double sum = from_high.sum, border = high;
  for (const std::size_t i : order) {
    if (sum >= wanted) {
      p[i] = 0;
      continue;
    }
    sum += p[i];
    border = p[i];
  }
  return border;
}

/// Weights below `least` become zero; the others are scaled to sum to 1.
void keep_from(std::span<double> p, double least) {
  const double factor = 1 / share_from(p, least).sum;
#pragma omp simd
  for (std::size_t i = 0; i < p.size(); ++i) p[i] = p[i] >= least ? p[i] * factor : 0;
}

}  // namespace

void validate(const SamplingOptions& options) {
  const auto require = [](bool holds, const char* name, double value, const char* bounds) {
    if (!holds) throw UsageError("sampling: {} is {}, expected {}", name, value, bounds);
  };
  require(options.temperature >= 0 && std::isfinite(options.temperature), "temperature", options.temperature,
          "a number of at least 0");
  require(options.top_k >= 0, "top_k", static_cast<double>(options.top_k), "at least 0");
  require(options.top_p > 0 && options.top_p <= 1, "top_p", options.top_p, "above 0 and at most 1");
  require(options.min_p >= 0 && options.min_p <= 1, "min_p", options.min_p, "0 to 1");
  require(options.repetition_penalty > 0 && std::isfinite(options.repetition_penalty), "repetition_penalty",
          options.repetition_penalty, "a number above 0");
}

void penalise(std::span<float> logits, std::span<const std::int32_t> text, double penalty) {
  penalise<float>(logits, text, static_cast<float>(penalty));
}

std::int32_t likeliest(std::span<const float> logits) {
  const float largest = checked_largest(logits);
  return static_cast<std::int32_t>(std::find(logits.begin(), logits.end(), largest) - logits.begin());
}

void likeliest_of(std::span<const float> logits, std::size_t count, std::vector<std::int32_t>& tokens) {
  tokens.assign(1, likeliest(logits));
  if (count == 1) return;
  tokens.resize(logits.size());
  std::iota(tokens.begin(), tokens.end(), 0);
  count = std::min(count, tokens.size());
  std::partial_sort(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count), tokens.end(),
                    [&](std::int32_t a, std::int32_t b) {
                      const float x = logits[static_cast<std::size_t>(a)],
                                  y = logits[static_cast<std::size_t>(b)];
                      return x > y || (x == y && a < b);
                    });
  tokens.resize(count);
}

double sum_of(std::span<const double> weights) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < weights.size(); ++i) sum += weights[i];
  return sum;
}

void scale_to_one(std::span<double> weights) {
  const double sum = sum_of(weights);
#pragma omp simd
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] /= sum;
}

void distribution(std::span<const float> logits, std::span<const std::int32_t> text,
                  const SamplingOptions& options, std::vector<double>& p) {
  double largest = checked_largest(logits);
  p.assign(logits.begin(), logits.end());
  if (options.repetition_penalty != 1) {
    penalise<double>(p, text, options.repetition_penalty);
    largest = largest_of<double>(p);
  }
  if (options.temperature == 0) {
    const auto first = std::find(p.begin(), p.end(), largest);
    std::fill(p.begin(), first, 0.0);
    *first = 1;
    std::fill(first + 1, p.end(), 0.0);
    return;
  }
  // Logits below this need no exponential.
  double least_logit = lowest;
  const auto k = static_cast<std::size_t>(options.top_k);
  if (k > 0 && k < p.size()) least_logit = top_k_border(p, k);
  constexpr double rounding = 1e-3;  // safety margin: keep_from() tests the weights exactly
  if (options.min_p > 0 && options.top_p == 1)
    least_logit = std::max(least_logit, largest + options.temperature * (std::log(options.min_p) - rounding));
  weigh(p, largest, options.temperature, least_logit);
  // The weights are not normalised: the largest is 1.
  double least = std::numeric_limits<double>::min();
  if (options.top_p < 1) least = keep_top_p(p, least, options.top_p);
  least = std::max(least, options.min_p);
  keep_from(p, least);
}

std::vector<double> distribution(std::span<const float> logits, std::span<const std::int32_t> text,
                                 const SamplingOptions& options) {
  std::vector<double> p;
  distribution(logits, text, options, p);
  return p;
}

std::int32_t draw(std::span<const double> weights, double u) {
  constexpr std::size_t block = 256;
  const double target = u * sum_of(weights);
  double before = 0;
  for (std::size_t begin = 0; begin < weights.size(); begin += block) {
    const std::span<const double> part = block_at(weights, begin, block);
    const double after = before + sum_of(part);
    if (after > target) {
      for (std::size_t i = 0; i < part.size(); ++i) {
        before += part[i];
        if (part[i] > 0 && before > target) return static_cast<std::int32_t>(begin + i);
      }
    }
    before = after;
  }
  // Rounding kept the sum below the target: return the last token with a positive weight.
  std::size_t last = weights.size();
  while (last > 1 && weights[last - 1] <= 0) --last;
  return static_cast<std::int32_t>(last - 1);
}

SequenceRng::SequenceRng(std::uint64_t seed, std::int64_t sequence)
    : token_(seed, fmt::format("generate/{}/token", sequence)),
      draft_(seed, fmt::format("generate/{}/draft", sequence)),
      accept_(seed, fmt::format("generate/{}/accept", sequence)) {}

}  // namespace foretoken

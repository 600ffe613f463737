#include "model/generation/sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "runtime/error.h"

namespace foretoken {

namespace {

void check(std::span<const float> logits) {
  if (std::any_of(logits.begin(), logits.end(), [](float x) { return std::isnan(x); }))
    throw NumericalError("sampling: a logit of the model is not a number");
  const float largest = *std::max_element(logits.begin(), logits.end());
  if (!std::isfinite(largest)) throw NumericalError("sampling: the largest logit is {}", largest);
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

void keep_top_k(std::vector<double>& p, std::int64_t k) {
  if (k == 0 || k >= static_cast<std::int64_t>(p.size())) return;
  std::vector<double> sorted = p;
  std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<>());
  const double least = sorted[static_cast<std::size_t>(k - 1)];
  for (double& x : p)
    if (x < least) x = 0;
}

void keep_top_p(std::vector<double>& p, double mass) {
  if (mass >= 1) return;
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < p.size(); ++i)
    if (p[i] > 0) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
  const double wanted = mass * sum_of(p);
  double sum = 0;
  for (const std::size_t i : order) {
    if (sum >= wanted) p[i] = 0;
    sum += p[i];
  }
}

void keep_min_p(std::vector<double>& p, double share) {
  const double least = share * *std::max_element(p.begin(), p.end());
  for (double& x : p)
    if (x < least) x = 0;
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
  float largest = -std::numeric_limits<float>::infinity(), sum = 0;
#pragma omp simd reduction(max : largest) reduction(+ : sum)
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float x = logits[i];
    largest = x > largest ? x : largest;
    sum += x - x;  // not a number where a logit is not, or is infinite
  }
  if (!std::isfinite(largest) || std::isnan(sum)) check(logits);
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
  return std::accumulate(weights.begin(), weights.end(), 0.0);
}

void scale_to_one(std::span<double> weights) {
  const double sum = sum_of(weights);
  for (double& x : weights) x /= sum;
}

std::vector<double> distribution(std::span<const float> logits, std::span<const std::int32_t> text,
                                 const SamplingOptions& options) {
  check(logits);
  std::vector<double> p(logits.begin(), logits.end());
  if (options.repetition_penalty != 1) penalise<double>(p, text, options.repetition_penalty);
  const auto first = std::max_element(p.begin(), p.end());
  const double largest = *first;
  if (options.temperature == 0) {
    const auto index = static_cast<std::size_t>(first - p.begin());
    std::fill(p.begin(), p.end(), 0.0);
    p[index] = 1;
    return p;
  }
  for (double& x : p) x = std::exp((x - largest) / options.temperature);
  keep_top_k(p, options.top_k);
  keep_top_p(p, options.top_p);
  keep_min_p(p, options.min_p);
  scale_to_one(p);
  return p;
}

std::int32_t draw(std::span<const double> weights, double u) {
  const double target = u * sum_of(weights);
  double sum = 0;
  std::size_t last = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] <= 0) continue;
    last = i;
    sum += weights[i];
    if (sum > target) break;
  }
  return static_cast<std::int32_t>(last);
}

SequenceRng::SequenceRng(std::uint64_t seed, std::int64_t sequence)
    : token_(seed, fmt::format("generate/{}/token", sequence)),
      draft_(seed, fmt::format("generate/{}/draft", sequence)),
      accept_(seed, fmt::format("generate/{}/accept", sequence)) {}

}  // namespace foretoken

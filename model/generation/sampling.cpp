#include "model/generation/sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include <fmt/format.h>

#include "runtime/error.h"

namespace foretoken {

namespace {

void scale_to_one(std::vector<double>& p) {
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
}

void penalise(std::vector<double>& logits, std::span<const std::int32_t> text, double penalty) {
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
  const double wanted = mass * std::accumulate(p.begin(), p.end(), 0.0);
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

std::vector<double> distribution(std::span<const float> logits, std::span<const std::int32_t> text,
                                 const SamplingOptions& options) {
  std::vector<double> p(logits.begin(), logits.end());
  if (std::any_of(p.begin(), p.end(), [](double x) { return std::isnan(x); }))
    throw NumericalError("sampling: a logit of the model is not a number");
  if (options.repetition_penalty != 1) penalise(p, text, options.repetition_penalty);
  const auto likeliest = std::max_element(p.begin(), p.end());
  const double largest = *likeliest;
  if (!std::isfinite(largest)) throw NumericalError("sampling: the largest logit is {}", largest);
  if (options.temperature == 0) {
    const auto index = static_cast<std::size_t>(likeliest - p.begin());
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
  const double target = u * std::accumulate(weights.begin(), weights.end(), 0.0);
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

Verdict verify(std::span<const Draft> drafts, std::span<const std::vector<double>> model,
               const SequenceRng& rng, std::int64_t first) {
  for (std::size_t j = 0; j < drafts.size(); ++j) {
    const auto x = static_cast<std::size_t>(drafts[j].token);
    const std::vector<double>&p = model[j], &q = drafts[j].distribution;
    const std::int64_t position = first + static_cast<std::int64_t>(j);
    if (rng.accept(position) * q[x] < p[x]) continue;
    std::vector<double> rest(p.size());
    for (std::size_t i = 0; i < p.size(); ++i) rest[i] = std::max(p[i] - q[i], 0.0);
    return {.accepted = j, .token = draw(rest, rng.token(position))};
  }
  return {.accepted = drafts.size(),
          .token = draw(model[drafts.size()], rng.token(first + static_cast<std::int64_t>(drafts.size())))};
}

}  // namespace foretoken

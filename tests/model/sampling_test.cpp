// Compares distributions with those of Hugging Face's logits processors, and drawn tokens with their
// distributions.

#include "model/generation/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/chi_square.h"
#include "tests/support/expect_error.h"

using namespace foretoken;
using foretoken::testing::check_counts;

namespace {

using Weights = std::vector<double>;

const std::vector<float> logits{2.0F, -1.0F, 0.5F, 3.0F, 0.0F, -2.5F, 2.5F, 1.0F};
const std::vector<std::int32_t> text{3, 1, 3, 7};

constexpr std::int64_t draws = 200000;

/// Reference implementation of the options: sorts the whole row and adds probabilities in order.
Weights by_sorting(const std::vector<float>& row, const SamplingOptions& options) {
  std::vector<std::size_t> order(row.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return row[a] > row[b]; });
  const auto weight = [&](std::size_t i) {
    return std::exp((static_cast<double>(row[i]) - row[order[0]]) / options.temperature);
  };
  if (const auto k = static_cast<std::size_t>(options.top_k); k > 0 && k < order.size()) {
    const float least = row[order[k - 1]];
    std::erase_if(order, [&](std::size_t i) { return row[i] < least; });
  }
  const auto mass_of = [&](const std::vector<std::size_t>& tokens) {
    double sum = 0;
    for (const std::size_t i : tokens) sum += weight(i);
    return sum;
  };
  const double wanted = options.top_p * mass_of(order);
  double sum = 0;
  std::size_t kept = 0;
  while (kept < order.size() && (options.top_p == 1 || sum < wanted)) sum += weight(order[kept++]);
  order.resize(kept);
  std::erase_if(order, [&](std::size_t i) { return weight(i) < options.min_p; });
  sum = mass_of(order);
  Weights p(row.size());
  for (const std::size_t i : order) p[i] = weight(i) / sum;
  return p;
}

}  // namespace

TEST_CASE("distributions are those of Hugging Face's logits processors") {
  struct Case {
    SamplingOptions options;
    Weights expected;
  };
  // transformers 4, in fp64: the processors of these options, then softmax.
  const Case each = GENERATE(
      Case{{.temperature = 0.7},
           {0.130800301463, 0.00180030745395, 0.0153453822925, 0.545794849898, 0.007512203914,
            0.000211210569211, 0.267189316597, 0.0313464278124}},
      Case{{.temperature = 1.3, .top_k = 3}, {0.21611553078, 0, 0, 0.466400122949, 0, 0, 0.317484346271, 0}},
      Case{{.temperature = 0.9, .top_p = 0.8},
           {0.172991202658, 0, 0, 0.525500873545, 0, 0, 0.301507923797, 0}},
      Case{{.temperature = 1.5, .min_p = 0.2},
           {0.205898430604, 0, 0, 0.401035382286, 0, 0, 0.287354408056, 0.105711779054}},
      Case{{.repetition_penalty = 1.4},
           {0.223130262124, 0.00744658647418, 0.0497870911217, 0.257395259688, 0.0301973972232,
            0.00247875330951, 0.3678796093, 0.0616850407594}},
      Case{{.repetition_penalty = 1.2, .temperature = 0.8, .top_k = 5, .top_p = 0.9, .min_p = 0.1},
           {0.211126719516, 0, 0, 0.394436640242, 0, 0, 0.394436640242, 0}});
  const Weights p = distribution(logits, text, each.options);
  REQUIRE(p.size() == each.expected.size());
  for (std::size_t i = 0; i < p.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(p[i] - each.expected[i]) < 1e-8);  // transformers computes penalties in fp32
  }
}

TEST_CASE("temperature 0 chooses the likeliest token after penalties, and of equals the first") {
  CHECK(distribution(logits, {}, {.temperature = 0}) == Weights{0, 0, 0, 1, 0, 0, 0, 0});
  CHECK(distribution(logits, text, {.repetition_penalty = 1.5, .temperature = 0}) ==
        Weights{0, 0, 0, 0, 0, 0, 1, 0});
  const std::vector<float> equals{1, 4, 4, -std::numeric_limits<float>::infinity()};
  CHECK(distribution(equals, {}, {.temperature = 0}) == Weights{0, 1, 0, 0});
  std::vector<std::int32_t> few;
  likeliest_of(equals, 3, few);
  CHECK(few == std::vector<std::int32_t>{1, 2, 0});
  likeliest_of(logits, 20, few);
  CHECK(few == std::vector<std::int32_t>{3, 6, 0, 7, 2, 4, 1, 5});
}

TEST_CASE(
    "the tokens kept of a wide row are those that sorting the row keeps, for peaked and flat rows and for "
    "ties") {
  const std::size_t width = GENERATE(1, 257, 5000);
  const double std = GENERATE(0.0, 0.01, 1.0, 4.0);
  const float step = GENERATE(0.0F, 0.25F);  // a coarse step gives many equal logits
  const SamplingOptions options =
      GENERATE(SamplingOptions{.temperature = 0.8}, SamplingOptions{.top_k = 1}, SamplingOptions{.top_k = 50},
               SamplingOptions{.top_k = 4000}, SamplingOptions{.temperature = 0.7, .top_p = 0.9},
               SamplingOptions{.temperature = 3, .top_p = 0.5}, SamplingOptions{.top_p = 0.01},
               SamplingOptions{.top_p = 0.9999}, SamplingOptions{.min_p = 0.05},
               SamplingOptions{.temperature = 1.5, .top_k = 600, .top_p = 0.95, .min_p = 0.01});
  CAPTURE(width, std, step, options.temperature, options.top_k, options.top_p, options.min_p);
  const CounterRng rng(7, "sampling_test/row");
  std::vector<float> row(width);
  for (std::size_t i = 0; i < width; ++i) {
    row[i] = static_cast<float>(std * rng.normal(i));
    if (step > 0) row[i] = step * std::round(row[i] / step);
    if (i % 7 == 3) row[i] = -std::numeric_limits<float>::infinity();
  }
  const Weights p = distribution(row, {}, options), expected = by_sorting(row, options);
  std::size_t differing = 0;
  for (std::size_t i = 0; i < width; ++i)
    differing += (p[i] > 0) != (expected[i] > 0) || std::abs(p[i] - expected[i]) > 1e-13 * expected[i];
  CHECK(differing == 0);
}

TEST_CASE("top-p keeps no further token once its mass is reached exactly, and of equals it keeps the first") {
  const std::vector<float> equals(8, 1.5F);
  CHECK(distribution(equals, {}, {.top_p = 0.5}) == Weights{0.25, 0.25, 0.25, 0.25, 0, 0, 0, 0});
  CHECK(distribution(equals, {}, {.top_p = 0.125}) == Weights{1, 0, 0, 0, 0, 0, 0, 0});
  const std::vector<float> many(4096, -2.0F);
  const Weights p = distribution(many, {}, {.top_p = 0.25});
  CHECK(std::count(p.begin(), p.begin() + 1024, 1.0 / 1024) == 1024);
  CHECK(std::count(p.begin() + 1024, p.end(), 0.0) == 3072);
  // top_k keeps all tokens with the k-th largest logit, in rows of ascending and descending logits.
  std::vector<float> steps(3000);
  for (std::size_t i = 0; i < steps.size(); ++i) steps[i] = static_cast<float>(i / 2) / 100;
  for (const bool reversed : {false, true}) {
    if (reversed) std::reverse(steps.begin(), steps.end());
    const Weights top = distribution(steps, {}, {.top_k = 3});
    CHECK(std::count_if(top.begin(), top.end(), [](double x) { return x > 0; }) == 4);
  }
}

TEST_CASE("drawn tokens follow the distribution, for every temperature and top-p") {
  const double temperature = GENERATE(0.5, 1.0, 2.0), top_p = GENERATE(1.0, 0.9, 0.5);
  CAPTURE(temperature, top_p);
  const Weights p = distribution(logits, {}, {.temperature = temperature, .top_p = top_p});
  const SequenceRng rng(3, 1);
  std::vector<std::int64_t> counts(p.size());
  for (std::int64_t i = 0; i < draws; ++i) ++counts[static_cast<std::size_t>(draw(p, rng.token(i)))];
  check_counts(counts, p);
}

TEST_CASE("a draw never returns a token of weight 0") {
  CHECK(draw(Weights{0, 0.25, 0, 0.75, 0}, 0) == 1);
  CHECK(draw(Weights{0, 0.25, 0, 0.75, 0}, std::nextafter(1.0, 0.0)) == 3);
  CHECK(draw(Weights{0, 1e-300, 0}, 0.5) == 1);
  Weights wide(1000);  // more weights than one block of draw()
  wide[300] = 0.1;
  wide[700] = 0.2;
  CHECK(draw(wide, 0) == 300);
  CHECK(draw(wide, 0.3) == 300);
  CHECK(draw(wide, 0.35) == 700);
  CHECK(draw(wide, std::nextafter(1.0, 0.0)) == 700);
}

TEST_CASE("sampling refuses options out of bounds and logits that are not numbers") {
  const auto refuse = [](const SamplingOptions& options, const std::string& message) {
    expect_error<UsageError>(message, [&] { validate(options); });
  };
  refuse({.temperature = -1}, "sampling: temperature is -1, expected a number of at least 0");
  refuse({.top_p = 0}, "sampling: top_p is 0, expected above 0 and at most 1");
  refuse({.min_p = 1.5}, "sampling: min_p is 1.5, expected 0 to 1");
  refuse({.repetition_penalty = 0}, "sampling: repetition_penalty is 0");
  refuse({.top_k = -1}, "sampling: top_k is -1");
  const std::vector<float> bad{1, std::numeric_limits<float>::quiet_NaN()};
  expect_error<NumericalError>("not a number", [&] { distribution(bad, {}, {}); });
  const std::vector<float> endless{1, std::numeric_limits<float>::infinity()};
  expect_error<NumericalError>("the largest logit is inf", [&] { likeliest(endless); });
}

// AdamW, and the sums over flat buffers that a training step computes.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "runtime/operators/parameters/adamw.h"
#include "runtime/operators/parameters/reductions.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/random.h"
#include "tests/runtime/bench.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("AdamW follows its formula") {
  Bench bench;
  const Tensor p = bench.normal("p", {3}), g = bench.normal("g", {3}), m = bench.zeros({3}),
               v = bench.zeros({3});
  const Tensor scale = bench.zeros({1});
  *scale.as<double>() = 0.5;
  double expected = p.as<double>()[1], em = 0, ev = 0;
  for (std::int64_t t = 1; t <= 3; ++t) {
    const double gradient = 0.5 * g.as<double>()[1];
    em = 0.9 * em + 0.1 * gradient;
    ev = 0.95 * ev + 0.05 * gradient * gradient;
    const double corrected = em / (1 - std::pow(0.9, t)) / (std::sqrt(ev / (1 - std::pow(0.95, t))) + 1e-8);
    expected -= 0.01 * (corrected + 0.1 * expected);
    adamw(bench.stream, {.values = p,
                         .gradients = g,
                         .exp_avg = m,
                         .exp_avg_sq = v,
                         .gradient_scale = scale,
                         .lr = 0.01,
                         .weight_decay = 0.1,
                         .step = t});
    CHECK(p.as<double>()[1] == Approx(expected).epsilon(1e-12));
  }
}

TEST_CASE("a fingerprint changes with every bit and with swapped elements, and does not depend on threads") {
  const std::int64_t n = GENERATE(1, 1000, 300000);  // 300000 elements are more than one part of 1 MiB
  CAPTURE(n);
  std::vector<std::uint32_t> words(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::uint32_t>(mix64(i));
  const Tensor x{words.data(), DType::f32, DeviceKind::cpu, {n}};
  const auto print = [&](int threads = 2) { return fingerprint_of(TestStream{threads}, x); };
  const std::int64_t before = print();
  CHECK(print(1) == before);
  CHECK(print(3) == before);
  for (std::uint32_t* word : {&words.front(), &words[words.size() / 2], &words.back()})
    for (int bit = 0; bit < 32; ++bit) {
      *word ^= 1U << bit;
      CHECK(print() != before);
      *word ^= 1U << bit;
    }
  CHECK(print() == before);
  if (n == 1) return;
  std::swap(words.front(), words.back());
  CHECK(print() != before);
}

TEST_CASE("a sum becomes NaN if any number is not finite, and stays if all are finite") {
  Bench bench;
  constexpr double largest = std::numeric_limits<double>::max(),
                   infinite = std::numeric_limits<double>::infinity();
  const std::int64_t n = GENERATE(1, 3, 70);
  const Tensor x = bench.zeros({n}), sum = bench.zeros({1});
  const auto marked = [&] {
    *sum.as<double>() = 5;
    mark_not_finite(bench.stream, {.x = x, .sum = sum});
    if (std::isnan(*sum.as<double>())) return true;
    CHECK(*sum.as<double>() == 5);
    return false;
  };
  for (double& each : x.span<double>()) {
    for (const double finite : {largest, -largest, std::numeric_limits<double>::denorm_min()}) {
      each = finite;
      CHECK_FALSE(marked());
    }
    for (const double bad : {infinite, -infinite, std::nan("")}) {
      each = bad;
      CHECK(marked());
    }
    each = 0;
  }
}

TEST_CASE("sum_of_squares does not depend on the number of threads") {
  Bench bench;
  const Tensor x = bench.normal("x", {100003});
  const Tensor sum = bench.zeros({2});
  sum_of_squares(TestStream{1}, {x, sum.flat(0, 1)});
  sum_of_squares(TestStream{3}, {x, sum.flat(1, 1)});
  CHECK(sum.as<double>()[0] == sum.as<double>()[1]);
  CHECK(sum.as<double>()[0] == Approx(dot(x, x)));
}

TEST_CASE(
    "sum_of_squares of bf16 equals that of the same numbers in f32, and is not finite if one of them is "
    "not") {
  Bench bench;
  constexpr std::int64_t n = 40003;
  const Tensor sum = bench.zeros({2});
  std::vector<float> wide(n);
  std::vector<BFloat16> narrow(n);
  const Tensor x = tensor_over(std::span(wide), {n}), rounded = tensor_over(std::span(narrow), {n});
  fill_normal(x, "x");
  convert(bench.stream, x, rounded);
  convert(bench.stream, rounded, x);
  sum_of_squares(bench.stream, {x, sum.flat(0, 1)});
  sum_of_squares(bench.stream, {rounded, sum.flat(1, 1)});
  CHECK(sum.as<double>()[0] == sum.as<double>()[1]);
  wide[30000] = std::numeric_limits<float>::infinity();
  convert(bench.stream, x, rounded);
  sum_of_squares(bench.stream, {rounded, sum.flat(1, 1)});
  CHECK(std::isinf(sum.as<double>()[1]));
}

TEST_CASE("a gradient whose norm is not finite changes nothing") {
  Bench bench;
  const Tensor sum = bench.zeros({1}), scale = bench.zeros({1});
  const auto scale_for = [&](double squares, double limit) {
    *sum.as<double>() = squares;
    clip_scale(bench.stream, {.sum = sum, .limit = limit, .scale = scale});
    return *scale.as<double>();
  };
  CHECK(scale_for(16, 2) == Approx(0.5));
  CHECK(scale_for(16, 0) == 1);
  CHECK(scale_for(1, 2) == 1);
  CHECK(std::isnan(scale_for(std::numeric_limits<double>::infinity(), 0)));
  const Tensor p = bench.normal("p", {3}), g = bench.normal("g", {3}), m = bench.zeros({3}),
               v = bench.zeros({3});
  adamw(bench.stream,
        {.values = p, .gradients = g, .exp_avg = m, .exp_avg_sq = v, .gradient_scale = scale, .lr = 0.01});
  CHECK(mismatch(p, bench.normal("p", {3}), 0, 0) == "");
  CHECK(mismatch(m, bench.zeros({3}), 0, 0) == "");
}

TEST_CASE("an inner product is the sum of products, and that of a tensor with itself the sum of squares") {
  Bench bench;
  const Tensor x = bench.normal("x", {5, 7001}), y = bench.normal("y", {35005}), sums = bench.zeros({3});
  inner_product(bench.stream, {.x = x, .y = y, .sum = sums.flat(0, 1)});
  CHECK(sums.as<double>()[0] == Approx(dot(x.view(y.shape), y)).epsilon(1e-12));
  inner_product(bench.stream, {.x = x, .y = x, .sum = sums.flat(1, 1)});
  sum_of_squares(bench.stream, {.x = x, .sum = sums.flat(2, 1)});
  CHECK(sums.as<double>()[1] == sums.as<double>()[2]);
  CHECK_THROWS_WITH(inner_product(bench.stream, {.x = x, .y = sums, .sum = sums.flat(0, 1)}),
                    contains("inner_product: x f64 [5, 7001], y f64 [3]"));
}

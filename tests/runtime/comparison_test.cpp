// mismatch(), the comparison of tensors that tests of operators use.

#include <cmath>
#include <limits>
#include <vector>

#include "runtime/bfloat16.h"
#include "runtime/random.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/numeric.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// A matrix [2, 3] whose element (1, 2) is given.
struct Matrix {
  explicit Matrix(float last) : values{1, 2, 3, 4, 5, last} {}
  Tensor tensor() { return tensor_over(std::span(values), {2, 3}); }
  std::vector<float> values;
};

}  // namespace

TEST_CASE("an element just inside its bound agrees, and one just outside is named with its coordinates") {
  Matrix expected(8), inside(8.5F), outside(std::nextafter(8.5F, 9.0F)), magnitude(4);
  for (const Bound& bound :
       {Bound{.absolute = 0.5}, Bound{.relative = 0x1p-4}, Bound{.terms = {{0x1p-3, magnitude.tensor()}}},
        Bound{.relative = 0x1p-6, .absolute = 0.25, .terms = {{0x1p-5, magnitude.tensor()}}}}) {
    CHECK(mismatch(inside.tensor(), expected.tensor(), bound) == "");
    CHECK(mismatch(outside.tensor(), expected.tensor(), bound) ==
          "element (1, 2): 8.500000953674316, expected 8 ± 0.5 (1 of 6 differ)");
  }
}

TEST_CASE("one wrong element among many is found, and the first of several is named") {
  std::vector<float> expected(50000, 1), actual = expected;
  const auto compared = [&] {
    return mismatch(tensor_over(std::span(actual), {50000}), tensor_over(std::span(expected), {50000}), 6e-3,
                    0);
  };
  CHECK(compared() == "");
  actual[40000] = 1.02F;
  CHECK_THAT(compared(), contains("element 40000: ") && contains("(1 of 50000 differ)"));
  actual[7] = 0;
  CHECK_THAT(compared(), contains("element 7: 0, expected 1 ± 0.006 (2 of 50000 differ)"));
}

TEST_CASE("NaN and infinity agree with nothing, whatever the bound") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const float bad : {nan, inf}) {
    Matrix expected(8), broken(bad);
    for (const Bound& bound :
         {Bound{}, Bound{.absolute = 1e30}, Bound{.absolute = inf}, Bound{.absolute = nan}}) {
      CHECK(mismatch(broken.tensor(), expected.tensor(), bound) != "");
      CHECK(mismatch(expected.tensor(), broken.tensor(), bound) != "");
      CHECK(mismatch(broken.tensor(), broken.tensor(), bound) != "");
    }
  }
}

TEST_CASE("tensors and magnitudes of different lengths do not agree") {
  Matrix matrix(8);
  std::vector<float> longer(7, 1);
  const Tensor other = tensor_over(std::span(longer), {7});
  CHECK(mismatch(other, matrix.tensor(), {.absolute = 100}) == "7 elements, expected 6");
  CHECK(mismatch(matrix.tensor(), matrix.tensor(), {.terms = {{1, other}}}) ==
        "7 magnitudes of a bound on 6 elements");
}

TEST_CASE("the unit roundoff is the largest relative error of rounding to a dtype") {
  for (float x = 1; x < 4; x += 0x1p-12F) {
    CHECK(std::abs(static_cast<float>(BFloat16(x)) - x) <= unit_roundoff(DType::bf16) * x);
    CHECK(std::abs(static_cast<double>(static_cast<float>(x + 1e-9)) - (x + 1e-9)) <=
          unit_roundoff(DType::f32) * x);
  }
  CHECK(unit_roundoff(DType::f8e4m3) == 1.0 / 16);
  CHECK(unit_roundoff(DType::f8e5m2) == 1.0 / 8);
  expect_error<DefectError>("dtype is i32", [] { unit_roundoff(DType::i32); });
}

TEST_CASE(
    "sums and roundings of random terms stay within their bounds, roundings by less than a factor of ten") {
  const CounterRng rng(1, "terms");
  const std::int64_t n = GENERATE(1, 2, 30, 1000, 10000);
  const bool positive = GENERATE(false, true);
  CAPTURE(n, positive);
  double worst_sum = 0, worst_rounding = 0;
  std::uint64_t drawn = 0;
  for (int sum = 0; sum < 200; ++sum) {
    float forward = 0, backward = 0;
    double exact = 0, rounded = 0, absolute = 0, square = 0;
    std::vector<float> terms;
    for (std::int64_t i = 0; i < n; ++i) {
      const auto term = static_cast<float>(rng.normal(drawn++));
      terms.push_back(positive ? std::abs(term) : term);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const float term = terms[static_cast<std::size_t>(i)];
      forward += term;
      backward += terms[static_cast<std::size_t>(n - 1 - i)];
      exact += term;
      rounded += static_cast<float>(BFloat16(term));
      absolute += std::abs(double(term));
      square += double(term) * term;
    }
    worst_sum = std::max(worst_sum, std::abs(double(forward) - backward) / (sum_roundoff(n) * absolute));
    worst_rounding = std::max(worst_rounding,
                              std::abs(rounded - exact) / (rounded_terms(DType::bf16) * std::sqrt(square)));
  }
  CAPTURE(worst_sum, worst_rounding);
  CHECK(worst_sum < 1);
  CHECK(worst_rounding < 1);
  CHECK(worst_rounding > 0.1);
}

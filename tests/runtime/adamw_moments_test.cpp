// AdamW with bf16 moments: properties of stochastic rounding, and comparison with the same steps in f32.

#include <bit>
#include <cmath>
#include <cstring>

#include "runtime/error.h"
#include "runtime/operators/parameters/adamw.h"
#include "runtime/operators/parameters/adamw_rounding.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/numeric.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// AdamW's state for n elements: values, gradients and both moments, the moments in one dtype.
struct State {
  State(Arena& arena, std::int64_t n, DType moments)
      : p(arena.tensor(DType::f32, {n})),
        g(arena.tensor(DType::f32, {n})),
        m(arena.tensor(moments, {n})),
        v(arena.tensor(moments, {n})),
        scale(arena.tensor(DType::f64, {1})) {
    fill_normal(p, "p");
    *scale.as<double>() = 1;
  }

  /// Sets moments to values representable in bf16, whatever their dtype.
  void set(float gradient, float mean, float square) const {
    for (float& x : g.span<float>()) x = gradient;
    const auto fill = [](const Tensor& moment, BFloat16 value) {
      if (moment.dtype == DType::bf16)
        for (BFloat16& x : moment.span<BFloat16>()) x = value;
      else
        for (float& x : moment.span<float>()) x = static_cast<float>(value);
    };
    fill(m, BFloat16(mean));
    fill(v, BFloat16(square));
  }

  void step(Stream& stream, std::int64_t t, double beta2 = 0.95, double lr = 1e-3) const {
    adamw(stream, {.values = p,
                   .gradients = g,
                   .exp_avg = m,
                   .exp_avg_sq = v,
                   .gradient_scale = scale,
                   .lr = lr,
                   .beta2 = beta2,
                   .step = t});
  }

  Tensor p, g, m, v, scale;
};

/// The sum of some rounding errors, in units of the last place, and the variance that it should have.
struct Errors {
  double sum = 0, variance = 0;

  void add(double error, double expected_variance) {
    sum += error;
    variance += expected_variance;
  }
  double deviations() const { return std::abs(sum) / std::sqrt(variance); }
};

struct Rounding {
  Rounding(BFloat16 rounded, float exact) {
    const std::uint32_t word = std::bit_cast<std::uint32_t>(exact) & 0xffff0000U;
    const double below = std::bit_cast<float>(word), above = std::bit_cast<float>(word + 0x10000U);
    const double is = static_cast<float>(rounded), share = (exact - below) / (above - below);
    error = (is - exact) / (above - below);
    variance = share * (1 - share);
    to_neighbour = is == below || (is == above && share > 0);
  }
  double error, variance;
  bool to_neighbour;
};

}  // namespace

TEST_CASE("over all dithers a float is rounded to bf16 with no bias, and keeps what bf16 can hold") {
  for (const float x :
       {1.0F, -1.0F, 1.7F, -3.14159F, 1.9999F, 6.0e-39F, -1e-40F, 3.0e38F, 0.0F, 0x1.01p-126F}) {
    CAPTURE(x);
    double sum = 0;
    for (std::uint32_t dither = 0; dither < 0x10000U; ++dither)
      sum += std::bit_cast<float>(
          static_cast<std::uint32_t>(stochastic_bf16(std::bit_cast<std::uint32_t>(x), dither)) << 16);
    CHECK(sum / 0x10000 == static_cast<double>(x));
  }
  for (const std::uint32_t dither : {0U, 0xffffU, 0xffff0000U}) {
    CHECK(stochastic_bf16(0x7f800000, dither) == 0x7f80);  // ∞
    CHECK(stochastic_bf16(0xff800000, dither) == 0xff80);
    for (const std::uint32_t nan : {0x7fffffffU, 0xffffffffU, 0x7f800001U})
      CHECK(std::isnan(std::bit_cast<float>(static_cast<std::uint32_t>(stochastic_bf16(nan, dither)) << 16)));
  }
}

TEST_CASE("moments round to a neighbour without bias, and m apart from v, whatever tells elements apart") {
  const auto [differ, n, steps] =
      GENERATE(table<std::string, std::int64_t, std::int64_t>({{"values", 1 << 18, 1},
                                                               {"last bits of gradients", 1 << 16, 4},
                                                               {"steps", 1, 1 << 16},
                                                               {"all", 1 << 18, 2}}));
  CAPTURE(differ);
  Arena arena(DeviceKind::cpu);
  TestStream stream{2};
  const State rounded(arena, n, DType::bf16), exact(arena, n, DType::f32);
  Errors m, v, both;
  for (std::int64_t t = 1; t <= steps; ++t) {
    for (const State& state : {rounded, exact}) {
      state.set(0.37F, 0.71F, 0.013F);
      const auto p = state.p.span<float>(), g = state.g.span<float>();
      if (differ == "all") fill_normal(state.g, "g");
      if (differ == "values" || differ == "all")
        fill_normal(state.p, "p");
      else
        std::fill(p.begin(), p.end(), 1.0F);
      if (differ == "last bits of gradients")
        for (std::size_t i = 0; i < g.size(); ++i)
          g[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(g[i]) + static_cast<std::uint32_t>(i));
      state.step(stream, t);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const Rounding of_m(rounded.m.as<BFloat16>()[i], exact.m.as<float>()[i]);
      const Rounding of_v(rounded.v.as<BFloat16>()[i], exact.v.as<float>()[i]);
      if (!of_m.to_neighbour || !of_v.to_neighbour) FAIL("element " << i << " of step " << t);
      m.add(of_m.error, of_m.variance);
      v.add(of_v.error, of_v.variance);
      both.add(of_m.error * of_v.error, of_m.variance * of_v.variance);
    }
  }
  CHECK(m.deviations() < 4);
  CHECK(v.deviations() < 4);
  CHECK(both.deviations() < 4);
}

TEST_CASE("at β₂ = 0.999 v in bf16 falls as in f32 once gradients are ten times smaller") {
  Arena arena(DeviceKind::cpu);
  TestStream stream{2};
  constexpr std::int64_t n = 4096, steps = 3000;
  const State rounded(arena, n, DType::bf16), exact(arena, 1, DType::f32);
  rounded.set(0.1F, 1, 1);
  exact.set(0.1F, 1, 1);
  BFloat16 nearest(1);
  for (std::int64_t t = 1; t <= steps; ++t) {
    rounded.step(stream, t, 0.999);
    exact.step(stream, t, 0.999);
    nearest = BFloat16(std::fma(0.999F, static_cast<float>(nearest), 0.001F * 0.01F));
  }
  const double expected = *exact.v.as<float>();
  CHECK(expected == Approx(0.01 + 0.99 * std::pow(0.999, steps)).epsilon(1e-4));
  CHECK(static_cast<float>(nearest) == 1);  // rounding to nearest loses every step's change
  double sum = 0, squares = 0;
  for (const BFloat16& x : rounded.v.span<BFloat16>()) {
    const double error = static_cast<float>(x) / expected - 1;
    sum += error;
    squares += error * error;
  }
  CHECK(std::abs(sum / n) < 0.01);
  // If a step changes v by d, the rounding variance is below d · unit, and a unit is at most 2⁻⁷ v.
  CHECK(std::sqrt(squares / n) < std::sqrt(steps * 0.001 * 0x1p-7));
}

TEST_CASE(
    "the rounding of moments in bf16 depends neither on an element's index nor on the number of threads") {
  Arena arena(DeviceKind::cpu);
  constexpr std::int64_t n = 40000, shift = 12345;
  const State whole(arena, n, DType::bf16), parts(arena, n, DType::bf16);
  for (const State& state : {whole, parts}) {
    state.set(0, 0.5F, 0.25F);
    fill_normal(state.g, "g");
  }
  whole.step(TestStream{3}, 7);
  for (const auto& [begin, count] : {std::pair{std::int64_t{0}, shift}, {shift, n - shift}})
    adamw(TestStream{1}, {.values = parts.p.flat(begin, count),
                          .gradients = parts.g.flat(begin, count),
                          .exp_avg = parts.m.flat(begin, count),
                          .exp_avg_sq = parts.v.flat(begin, count),
                          .gradient_scale = parts.scale,
                          .lr = 1e-3,
                          .step = 7});
  for (const auto& [a, b] : {std::pair{whole.m, parts.m}, {whole.v, parts.v}})
    CHECK(std::memcmp(a.data, b.data, a.bytes()) == 0);
}

TEST_CASE("values are updated with the moments before rounding") {
  Arena arena(DeviceKind::cpu);
  TestStream stream;
  const State rounded(arena, 1000, DType::bf16), exact(arena, 1000, DType::f32);
  for (const State& state : {rounded, exact}) {
    state.set(0, 0.5F, 0.25F);
    fill_normal(state.g, "g");
    state.step(stream, 1);
  }
  CHECK(mismatch(rounded.p, exact.p, 0, 0) == "");
}

TEST_CASE("AdamW refuses moments of two dtypes, and bf16 under values in f64") {
  Arena arena(DeviceKind::cpu);
  TestStream stream;
  State state(arena, 3, DType::bf16);
  state.v = arena.tensor(DType::f32, {3});
  expect_error<DefectError>("moments in bf16 and f32 over values in f32", [&] { state.step(stream, 1); });
  state = State(arena, 3, DType::bf16);
  state.p = arena.tensor(DType::f64, {3});
  expect_error<DefectError>("moments in bf16 and bf16 over values in f64", [&] { state.step(stream, 1); });
}

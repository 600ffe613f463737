// AdamW, sums over flat buffers and elementwise operators, compared with the CPU.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "runtime/operators/parameters/adamw.h"
#include "runtime/operators/parameters/random_normal.h"
#include "runtime/operators/parameters/reductions.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/random.h"
#include "tests/gpu/twin.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("inner products match the CPU") {
  TwinBench bench(any_dtype());
  const std::int64_t n = GENERATE(1, 1000, 65536 * 3 + 5);
  CAPTURE(name_of(bench.dtype()), n);
  const Twin x = bench.normal("x", {n}), y = bench.normal("y", {n}), sum = bench.zeros({1}, DType::f64);
  run(bench, inner_product, [&](auto on) { return InnerProduct{x.*on, x.*on, sum.*on}; });
  run(bench, inner_product, [&](auto on) { return InnerProduct{x.*on, y.*on, sum.*on}; });
  double magnitude = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double a = x.cpu.as<float>()[i], b = y.cpu.as<float>()[i];
    magnitude += a * a + std::abs(a * b);
  }
  // Products of f32 are exact in f64.
  CHECK(bench.difference(sum, {.absolute = sum_roundoff(2 * n, DType::f64) * magnitude}) == "");
}

namespace {

/// A copy of AdamW's inputs before an update, on the CPU.
struct BeforeAdamW {
  std::vector<float> values, gradients, exp_avg;

  BeforeAdamW(const Tensor& p, const Tensor& g, const Tensor& m)
      : values(p.span<float>().begin(), p.span<float>().end()),
        gradients(g.span<float>().begin(), g.span<float>().end()),
        exp_avg(m.span<float>().begin(), m.span<float>().end()) {}

  /// Bound of the roundings in p − lr · (weight_decay · p + mean / (√square + ε)): each summand, the two
  /// summands of the mean, the square root and the quotient are rounded. exp_avg_sq is the updated v.
  Bound bound(TwinBench& bench, const AdamW& op, std::span<const float> exp_avg_sq) const {
    const Tensor magnitude = bench.magnitudes({std::ssize(values)});
    const double t = static_cast<double>(op.step), scale = *op.gradient_scale.as<double>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double mean =
          (op.beta1 * std::abs(double(exp_avg[i])) + (1 - op.beta1) * std::abs(scale * gradients[i])) /
          (1 - std::pow(op.beta1, t));
      const double root = std::sqrt(exp_avg_sq[i] / (1 - std::pow(op.beta2, t))) + op.eps;
      magnitude.as<float>()[i] = static_cast<float>(std::abs(double(values[i])) + op.lr * mean / root);
    }
    return {.relative = stored(DType::f32), .terms = {{stored(DType::f32), magnitude}}};
  }
};

}  // namespace

TEST_CASE("AdamW with moments in bf16 gives the CPU's bits") {
  TwinBench bench(DType::f32);
  Arena host(DeviceKind::cpu), device(DeviceKind::cuda);
  const auto [n, skipped] =
      GENERATE(table<std::int64_t, std::int64_t>({{4096, 0}, {65536 * 3 + 5, 0}, {8192, 1}}));
  CAPTURE(n, skipped);  // an odd length or start prevents vectorised access
  const Twin p = bench.normal("p", {n}), g = bench.normal("g", {n}, 0.01),
             scale = bench.zeros({1}, DType::f64);
  *scale.cpu.as<double>() = 0.7;
  bench.upload(scale);
  const auto moment = [&](const std::string& name, double std, bool positive) {
    const Twin twin{host.tensor(DType::bf16, {n}), device.tensor(DType::bf16, {n})};
    const Tensor wide = host.tensor(DType::f32, {n});
    fill_normal(wide, name, std);
    for (float& x : wide.span<float>()) x = positive ? std::abs(x) : x;
    convert(bench.cpu(), wide, twin.cpu);
    copy(bench.gpu(), twin.cpu, twin.gpu);
    bench.gpu().synchronize();
    return twin;
  };
  const Twin m = moment("m", 0.01, false), v = moment("v", 1e-4, true);
  const auto step = [&](Tensor Twin::*on) {
    const auto part = [&](const Twin& twin) { return (twin.*on).flat(skipped, n - skipped); };
    return AdamW{.values = part(p),
                 .gradients = part(g),
                 .exp_avg = part(m),
                 .exp_avg_sq = part(v),
                 .gradient_scale = scale.*on,
                 .lr = 0.01,
                 .beta2 = 0.999,
                 .weight_decay = 0.1,
                 .step = 3};
  };
  const Tensor before = host.tensor(DType::bf16, {n});
  copy(bench.cpu(), v.cpu, before);
  const Tensor wide_m = host.tensor(DType::f32, {n}), wide_v = host.tensor(DType::f32, {n});
  convert(bench.cpu(), m.cpu, wide_m);
  const BeforeAdamW before_step(p.cpu, g.cpu, wide_m);
  run(bench, adamw, step);
  convert(bench.cpu(), v.cpu, wide_v);
  CHECK(bench.difference(p, before_step.bound(bench, step(&Twin::cpu), wide_v.span<float>())) == "");
  for (const Twin& state : {m, v}) {
    const Tensor found = host.tensor(DType::bf16, {n});
    copy(bench.gpu(), state.gpu, found);
    bench.gpu().synchronize();
    CHECK(std::memcmp(found.data, state.cpu.data, found.bytes()) == 0);
  }
  CHECK(std::memcmp(before.data, v.cpu.data, before.bytes()) != 0);
}

TEST_CASE("AdamW, norms and elementwise operators match the CPU") {
  TwinBench bench(DType::f32);
  const std::int64_t n = GENERATE(1, 1000, 65536 * 3 + 5);
  CAPTURE(n);
  const Twin p = bench.normal("p", {n}), g = bench.normal("g", {n}), m = bench.normal("m", {n}, 0.1),
             v = bench.zeros({n}, DType::f32), weights = bench.poisoned({n}, DType::bf16);
  Arena host(DeviceKind::cpu);
  const Tensor rounded = host.tensor(DType::bf16, {n});
  const Twin sum = bench.zeros({1}, DType::f64), scale = bench.zeros({1}, DType::f64);
  run(bench, sum_of_squares, [&](auto on) { return SumOfSquares{g.*on, sum.*on}; });
  run(bench, sum_of_squares, [&](auto on) { return SumOfSquares{p.*on, sum.*on}; });
  const double positive_sum = sum_roundoff(2 * n, DType::f64);
  CHECK(bench.difference(sum, {.relative = positive_sum}) == "");
  run(bench, clip_scale, [&](auto on) { return ClipScale{.sum = sum.*on, .limit = 1, .scale = scale.*on}; });
  CHECK(bench.difference(scale, {.relative = positive_sum}) == "");
  bench.copy_to_cpu(scale);
  const auto step = [&](Tensor Twin::*on, const Tensor& compute_weights) {
    return AdamW{.values = p.*on,
                 .gradients = g.*on,
                 .exp_avg = m.*on,
                 .exp_avg_sq = v.*on,
                 .weights = compute_weights,
                 .gradient_scale = scale.*on,
                 .lr = 0.01,
                 .weight_decay = 0.1,
                 .step = 3};
  };
  const BeforeAdamW before_step(p.cpu, g.cpu, m.cpu);
  adamw(bench.cpu(), step(&Twin::cpu, {}));
  adamw(bench.gpu(), step(&Twin::gpu, weights.gpu));
  CHECK(bench.difference(p, before_step.bound(bench, step(&Twin::cpu, {}), v.cpu.span<float>())) == "");
  // Both devices compute the moments with the same roundings (adamw.h).
  for (const Twin& state : {m, v}) CHECK(bench.difference(state) == "");
  bench.copy_to_cpu(p);
  convert(bench.cpu(), p.cpu, rounded);
  convert(bench.cpu(), rounded, weights.cpu);
  CHECK(bench.difference(weights) == "");

  add(bench.cpu(), g.cpu, p.cpu);
  add(bench.gpu(), g.gpu, p.gpu);
  CHECK(bench.difference(p) == "");
  random_normal(bench.cpu(), {.out = p.cpu, .rng = {7, "x"}, .std = 0.02});
  random_normal(bench.gpu(), {.out = p.gpu, .rng = {7, "x"}, .std = 0.02});
  // Both devices compute in f64. Their logarithms differ by an ulp of f64, which may round to another f32.
  CHECK(bench.difference(p, {.relative = 2 * unit_roundoff(DType::f32)}) == "");
  fill(bench.cpu(), g.cpu, 0.5);
  fill(bench.gpu(), g.gpu, 0.5);
  CHECK(bench.difference(g) == "");
  set_zero(bench.cpu(), g.cpu);
  set_zero(bench.gpu(), g.gpu);
  CHECK(bench.difference(g) == "");
}

TEST_CASE("the GPU sets a sum to NaN exactly where the CPU does") {
  TwinBench bench(DType::f32);
  static constexpr double largest = std::numeric_limits<double>::max(),
                          infinite = std::numeric_limits<double>::infinity();
  const std::int64_t n = GENERATE(1, 31, 32, 33, 70);
  const double value = GENERATE(0.0, largest, std::numeric_limits<double>::denorm_min(), infinite, -infinite,
                                std::numeric_limits<double>::quiet_NaN());
  CAPTURE(n, value);
  const Twin x = bench.zeros({n}, DType::f64), sum = bench.zeros({1}, DType::f64);
  for (const std::int64_t at : {std::int64_t{0}, n / 2, n - 1}) {
    x.cpu.as<double>()[at] = value;
    *sum.cpu.as<double>() = 5;
    bench.upload(x);
    bench.upload(sum);
    run(bench, mark_not_finite, [&](auto on) { return MarkNotFinite{x.*on, sum.*on}; });
    const double found = *bench.download(sum).as<double>();
    if (std::isfinite(value)) {
      CHECK(*sum.cpu.as<double>() == 5);
      CHECK(found == 5);
    } else {
      CHECK(std::isnan(*sum.cpu.as<double>()));
      CHECK(std::isnan(found));
    }
    x.cpu.as<double>()[at] = 0;
  }
}

TEST_CASE(
    "a fingerprint on the GPU changes with every bit and with swapped elements, and repeats for equal bits") {
  TwinBench bench(DType::f32);
  const DType dtype = GENERATE(DType::f32, DType::bf16, DType::f64);
  const std::int64_t n = GENERATE(1, 1000, 65536 * 3 + 5);
  CAPTURE(name_of(dtype), n);
  const std::size_t size = size_of(dtype);
  Arena host(DeviceKind::cpu), device(DeviceKind::cuda);
  const Tensor x = host.tensor(dtype, {n}), on_gpu = device.tensor(dtype, {n}),
               bits = device.tensor(DType::i64, {2});
  auto* bytes = static_cast<unsigned char*>(x.data);
  for (std::size_t i = 0; i < x.bytes(); ++i) bytes[i] = static_cast<unsigned char>(mix64(i));
  // Enqueues two fingerprints before the host waits: the second must not disturb the first.
  const auto print = [&] {
    copy(bench.gpu(), x, on_gpu);
    for (const std::int64_t i : {0, 1}) fingerprint(bench.gpu(), {.x = on_gpu, .bits = bits.flat(i, 1)});
    std::vector<std::int64_t> found(2);
    copy(bench.gpu(), bits, tensor_over(std::span(found), {2}));
    bench.gpu().synchronize();
    CHECK(found[0] == found[1]);
    CHECK(found[0] == fingerprint_of(bench.gpu(), on_gpu));
    return found[0];
  };
  const std::int64_t before = print();
  for (const std::int64_t element : {std::int64_t{0}, n / 2, n - 1})
    for (std::size_t bit = 0; bit < 8 * size; ++bit) {
      unsigned char& byte = bytes[static_cast<std::size_t>(element) * size + bit / 8];
      byte ^= static_cast<unsigned char>(1U << (bit % 8));
      CHECK(print() != before);
      byte ^= static_cast<unsigned char>(1U << (bit % 8));
    }
  CHECK(print() == before);
  if (n == 1) return;
  std::swap_ranges(bytes, bytes + size, bytes + static_cast<std::size_t>(n - 1) * size);
  CHECK(print() != before);
}

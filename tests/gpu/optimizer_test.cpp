// AdamW, sums over flat buffers and elementwise operators, compared with the CPU.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
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
  CHECK(bench.error(sum) < 1e-12);
}

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
  run(bench, adamw, step);
  CHECK(bench.error(p) < 1e-6);
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
  const Twin sum = bench.zeros({1}, DType::f64), scale = bench.zeros({1}, DType::f64);
  run(bench, sum_of_squares, [&](auto on) { return SumOfSquares{g.*on, sum.*on}; });
  run(bench, sum_of_squares, [&](auto on) { return SumOfSquares{p.*on, sum.*on}; });
  CHECK(bench.error(sum) < 1e-12);
  run(bench, clip_scale, [&](auto on) { return ClipScale{.sum = sum.*on, .limit = 1, .scale = scale.*on}; });
  CHECK(bench.error(scale) < 1e-12);
  CHECK(checksum(bench.cpu(), p.cpu) == checksum(bench.gpu(), p.gpu));
  const auto step = [&](Tensor Twin::*on, const Tensor& rounded) {
    return AdamW{.values = p.*on,
                 .gradients = g.*on,
                 .exp_avg = m.*on,
                 .exp_avg_sq = v.*on,
                 .weights = rounded,
                 .gradient_scale = scale.*on,
                 .lr = 0.01,
                 .weight_decay = 0.1,
                 .step = 3};
  };
  adamw(bench.cpu(), step(&Twin::cpu, {}));
  adamw(bench.gpu(), step(&Twin::gpu, weights.gpu));
  for (const Twin& state : {p, m, v}) CHECK(bench.error(state) < 1e-6);
  std::copy_n(p.cpu.as<float>(), n, weights.cpu.as<float>());
  CHECK(bench.error(weights) < tolerance(DType::bf16));

  add(bench.cpu(), g.cpu, p.cpu);
  add(bench.gpu(), g.gpu, p.gpu);
  CHECK(bench.error(p) < 1e-6);
  random_normal(bench.cpu(), {.out = p.cpu, .rng = {7, "x"}, .std = 0.02});
  random_normal(bench.gpu(), {.out = p.gpu, .rng = {7, "x"}, .std = 0.02});
  CHECK(bench.error(p) < 1e-7);
  fill(bench.cpu(), g.cpu, 0.5);
  fill(bench.gpu(), g.gpu, 0.5);
  CHECK(bench.error(g) == 0);
  set_zero(bench.cpu(), g.cpu);
  set_zero(bench.gpu(), g.gpu);
  CHECK(bench.error(g) == 0);
}

TEST_CASE("the GPU marks a sum where the CPU does") {
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

TEST_CASE("a fingerprint on the GPU changes with every bit and with swapped elements, and not by itself") {
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

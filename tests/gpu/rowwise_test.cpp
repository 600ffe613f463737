// Operators on independent rows compared with the CPU, for shapes that fill vector accesses and shapes that
// do not.

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/operators/rowwise/activation.h"
#include "runtime/operators/rowwise/rms_norm.h"
#include "runtime/operators/rowwise/rope.h"
#include "runtime/operators/rowwise/swiglu.h"
#include "runtime/operators/vocabulary/embedding.h"
#include "runtime/random.h"
#include "tests/gpu/twin.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// The weight's gradient before the operator adds to it.
Twin dw_before(TwinBench& bench, std::int64_t c) {
  return bench.normal("dw", {c}, DType::f32, 1.0);
}

}  // namespace

TEST_CASE("rms_norm matches the CPU, whole and as a column block") {
  TwinBench bench(any_dtype());
  const auto [n, c] = GENERATE(table<std::int64_t, std::int64_t>(
      {{1, 1}, {5, 7}, {3, 8}, {9, 64}, {130, 1000}, {257, 2048}, {6, 8200}, {4, 16384}, {3, 1027}}));
  const bool second_half = GENERATE(false, true);
  CAPTURE(name_of(bench.dtype()), n, c, second_half);
  const std::int64_t stride = second_half ? 2 * c : c, first = second_half ? c : 0;
  const Twin x = bench.normal("x", {n, c}), w = bench.normal("w", {c}),
             dout = bench.normal("dout", {n, stride}), residual = bench.normal("residual", {n, c});
  const Twin rstd = bench.poisoned({n}, bench.statistics()), out = bench.zeros({n, stride}, bench.dtype());
  run(bench, rms_norm_forward, [&](auto on) {
    return RmsNormForward{.x = x.*on, .weight = w.*on, .eps = 0.1, .out = {out.*on, first}, .rstd = rstd.*on};
  });
  const DType dtype = bench.dtype();
  // rstd = 1/√(mean(x²) + eps): half the relative error of a sum of positive terms.
  CHECK(bench.difference(out, {.relative = stored(dtype) + sum_roundoff(c)}) == "");
  CHECK(bench.difference(rstd, {.relative = stored(DType::f32) + sum_roundoff(c)}) == "");
  bench.copy_to_cpu(rstd);

  // dx = rstd · w · dout − x · rstd³ · mean(w · dout · x). With one column, the two terms differ only by eps.
  const Tensor magnitude = bench.magnitudes({n, c}), dw_magnitude = bench.absolutes(dw_before(bench, c).cpu);
  for (std::int64_t row = 0; row < n; ++row) {
    const float* x_row = x.cpu.as<float>() + row * c;
    const float* dout_row = dout.cpu.as<float>() + row * stride + first;
    const double scale = rstd.cpu.as<float>()[row];
    double mean = 0;
    for (std::int64_t i = 0; i < c; ++i)
      mean += std::abs(double(w.cpu.as<float>()[i]) * dout_row[i] * x_row[i]) / static_cast<double>(c);
    for (std::int64_t i = 0; i < c; ++i) {
      magnitude.as<float>()[row * c + i] =
          static_cast<float>(scale * std::abs(double(w.cpu.as<float>()[i]) * dout_row[i]) +
                             scale * scale * scale * mean * std::abs(x_row[i]));
      // dweight accumulates in both calls.
      dw_magnitude.as<float>()[i] += static_cast<float>(2 * scale * std::abs(double(dout_row[i]) * x_row[i]));
    }
  }
  const Bound dx_bound{.relative = stored(dtype), .terms = {{sum_roundoff(c + 4), magnitude}}};
  const Twin dx = bench.poisoned({n, c}), again = bench.poisoned({n, c}), dw = dw_before(bench, c);
  run(bench, rms_norm_backward, [&](auto on) {
    return RmsNormBackward{.dout = {dout.*on, first},
                           .x = x.*on,
                           .weight = w.*on,
                           .rstd = rstd.*on,
                           .dx = dx.*on,
                           .dweight = dw.*on};
  });
  CHECK(bench.difference(dx, dx_bound) == "");
  Bound with_residual = dx_bound;
  with_residual.terms.push_back({sum_roundoff(c + 4), bench.absolutes(residual.cpu)});
  run(bench, rms_norm_backward, [&](auto on) {
    return RmsNormBackward{.dout = {dout.*on, first},
                           .x = x.*on,
                           .weight = w.*on,
                           .rstd = rstd.*on,
                           .residual = residual.*on,
                           .dx = residual.*on,
                           .dweight = dw.*on,
                           .out = again.*on};
  });
  CHECK(bench.difference(residual, with_residual) == "");
  CHECK(bench.difference(again, {.relative = stored(dtype)}) == "");
  CHECK(bench.difference(
            dw, {.relative = stored(DType::f32), .terms = {{sum_roundoff(2 * n + 1), dw_magnitude}}}) == "");
  const Twin without_dw = bench.poisoned({n, c});
  run(bench, rms_norm_backward, [&](auto on) {
    return RmsNormBackward{
        .dout = {dout.*on, first}, .x = x.*on, .weight = w.*on, .rstd = rstd.*on, .dx = without_dw.*on};
  });
  CHECK(mismatch(bench.download(without_dw), bench.download(dx), 0, 0) == "");
}

TEST_CASE("rms_norm finds the largest magnitude of what it writes") {
  TwinBench bench(any_dtype());
  const auto [n, c] =
      GENERATE(table<std::int64_t, std::int64_t>({{1, 1}, {5, 7}, {130, 1000}, {1500, 2048}}));
  CAPTURE(name_of(bench.dtype()), n, c);
  const Twin x = bench.normal("x", {n, c}), w = bench.normal("w", {c}), dout = bench.normal("dout", {n, c});
  const Twin rstd = bench.poisoned({n}, bench.statistics()), out = bench.poisoned({n, c}),
             dx = bench.poisoned({n, c}), amax = bench.normal("amax", {1}, DType::f32, 100);
  const auto largest = [&](const Twin& of) {
    const Tensor values = bench.download(of);
    float result = 0;
    for (const float value : values.span<float>()) result = std::max(result, std::abs(value));
    return result;
  };
  rms_norm_forward(bench.gpu(),
                   {.x = x.gpu, .weight = w.gpu, .out = {out.gpu}, .rstd = rstd.gpu, .amax = amax.gpu});
  CHECK(*bench.download(amax).as<float>() == largest(out));
  rms_norm_backward(bench.gpu(), {.dout = {dout.gpu},
                                  .x = x.gpu,
                                  .weight = w.gpu,
                                  .rstd = rstd.gpu,
                                  .residual = {},
                                  .dx = dx.gpu,
                                  .dweight = {},
                                  .out = {},
                                  .amax = amax.gpu});
  CHECK(*bench.download(amax).as<float>() == largest(dx));
}

namespace {

/// For each element, |x₁| + |x₂| of the pair that it belongs to, which bounds both products of its rotation.
Tensor rope_magnitudes(TwinBench& bench, const Tensor& qkv, std::int64_t size) {
  const Tensor magnitude = bench.absolutes(qkv);
  for (std::int64_t head = 0; head < qkv.elements(); head += size)
    for (std::int64_t i = head; i < head + size / 2; ++i) {
      float &first = magnitude.as<float>()[i], &second = magnitude.as<float>()[i + size / 2];
      first = second = first + second;
    }
  return magnitude;
}

}  // namespace

TEST_CASE("rope matches the CPU") {
  TwinBench bench(any_dtype());
  const auto [t, heads, size] = GENERATE(
      table<std::int64_t, std::int64_t, std::int64_t>({{1, 1, 2}, {7, 3, 6}, {33, 4, 32}, {65, 20, 128}}));
  CAPTURE(name_of(bench.dtype()), t, heads, size);
  const Twin qkv = bench.normal("qkv", {2, t, (heads + 1) * size});
  const auto [cos, sin] = bench.rope_tables(t, size, 100);
  for (const RopeDirection direction : {RopeDirection::forward, RopeDirection::backward}) {
    const Tensor magnitude = rope_magnitudes(bench, qkv.cpu, size);
    run(bench, rope, [&](auto on) {
      return Rope{.qkv = qkv.*on, .cos = cos.*on, .sin = sin.*on, .heads = heads, .direction = direction};
    });
    CHECK(bench.difference(
              qkv, {.relative = stored(bench.dtype()), .terms = {{stored(DType::f32), magnitude}}}) == "");
    bench.copy_to_cpu(qkv);
  }
}

TEST_CASE("swiglu matches the CPU, also in place") {
  TwinBench bench(any_dtype());
  const auto [n, f] =
      GENERATE(table<std::int64_t, std::int64_t>({{1, 1}, {5, 7}, {3, 8}, {65, 352}, {20, 5632}}));
  CAPTURE(name_of(bench.dtype()), n, f);
  const Twin gate_up = bench.normal("gate_up", {n, 2 * f}, 3), dout = bench.normal("dout", {n, f});
  const Twin out = bench.poisoned({n, f}), apart = bench.poisoned({n, 2 * f});
  run(bench, swiglu_forward, [&](auto on) { return SwigluForward{.gate_up = gate_up.*on, .out = out.*on}; });
  CHECK(bench.difference(out, {.relative = stored(bench.dtype()) + exp_roundoff}) == "");
  // dgate = dout · up · silu'(gate), whose two terms may cancel; dup = dout · silu(gate).
  const Tensor magnitude = bench.magnitudes({n, 2 * f});
  for (std::int64_t i = 0; i < n * f; ++i)
    magnitude.as<float>()[i / f * 2 * f + i % f] =
        std::abs(dout.cpu.as<float>()[i] * gate_up.cpu.as<float>()[i / f * 2 * f + f + i % f]);
  const Bound gradient{.relative = stored(bench.dtype()) + exp_roundoff,
                       .terms = {{exp_roundoff, magnitude}}};
  run(bench, swiglu_backward, [&](auto on) {
    return SwigluBackward{.dout = dout.*on, .gate_up = gate_up.*on, .dgate_up = apart.*on};
  });
  CHECK(bench.difference(apart, gradient) == "");
  run(bench, swiglu_backward, [&](auto on) {
    return SwigluBackward{.dout = dout.*on, .gate_up = gate_up.*on, .dgate_up = gate_up.*on, .out = dout.*on};
  });
  CHECK(bench.difference(gate_up, gradient) == "");
  CHECK(bench.difference(dout, {.relative = stored(bench.dtype()) + exp_roundoff}) == "");
}

TEST_CASE("activation matches the CPU, also in place") {
  TwinBench bench(any_dtype());
  const auto function = GENERATE(Activation::gelu, Activation::silu);
  const std::int64_t n = GENERATE(1, 7, 8, 4099, 65536);
  CAPTURE(name_of(bench.dtype()), static_cast<int>(function), n);
  const Twin x = bench.normal("x", {n}, 3), dout = bench.normal("dout", {n}),
             residual = bench.normal("residual", {n});
  const Twin out = bench.poisoned({n}), sum = bench.poisoned({n}), apart = bench.poisoned({n});
  // gelu(x) = x · (1 + erf(x/√2)) / 2 cancels for negative x, so its error is an ulp of x, not of gelu(x). In
  // the same way, the error of its slope is an ulp of 1.
  const Bound value{.relative = stored(bench.dtype()) + exp_roundoff,
                    .terms = {{stored(DType::f32), bench.absolutes(x.cpu)}}};
  Bound with_residual = value;
  with_residual.terms.push_back({stored(DType::f32), bench.absolutes(residual.cpu)});
  const Bound slope{.relative = stored(bench.dtype()) + exp_roundoff,
                    .terms = {{exp_roundoff, bench.absolutes(dout.cpu)}}};
  run(bench, activation_forward,
      [&](auto on) { return ActivationForward{.function = function, .x = x.*on, .out = out.*on}; });
  CHECK(bench.difference(out, value) == "");
  run(bench, activation_forward, [&](auto on) {
    return ActivationForward{.function = function, .x = x.*on, .residual = residual.*on, .out = sum.*on};
  });
  CHECK(bench.difference(sum, with_residual) == "");
  run(bench, activation_backward, [&](auto on) {
    return ActivationBackward{.function = function, .dout = dout.*on, .x = x.*on, .dx = apart.*on};
  });
  CHECK(bench.difference(apart, slope) == "");
  run(bench, activation_backward, [&](auto on) {
    return ActivationBackward{.function = function, .dout = dout.*on, .x = x.*on, .dx = x.*on};
  });
  CHECK(bench.difference(x, slope) == "");
}

TEST_CASE("embedding matches the CPU, also where tokens repeat often") {
  TwinBench bench(any_dtype());
  const auto [b, t, c, v] = GENERATE(table<std::int64_t, std::int64_t, std::int64_t, std::int64_t>(
      {{1, 1, 1, 2}, {2, 5, 7, 3}, {3, 65, 64, 1000}, {2, 300, 264, 5}, {1, 8, 1024, 70000}}));
  const std::int64_t first = GENERATE(0, 2);
  CAPTURE(name_of(bench.dtype()), b, t, c, v, first);
  const CounterRng rng(3, "tokens");
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < b * (t + 3); ++i)
    tokens.push_back(
        static_cast<std::int32_t>(rng.u64(static_cast<std::uint64_t>(i)) % static_cast<std::uint64_t>(v)));
  const Twin ids = bench.integers({b, t + 3}, tokens), weight = bench.normal("table", {v, c}),
             out = bench.poisoned({b, t, c}), dout = bench.normal("dout", {b, t, c});
  const Twin dtable = bench.normal("dtable", {v, c}, DType::f32, 1.0);
  run(bench, embedding_forward, [&](auto on) {
    return EmbeddingForward{.tokens = ids.*on, .first = first, .table = weight.*on, .out = out.*on};
  });
  CHECK(bench.difference(out) == "");
  std::vector<std::int32_t> some = tokens;
  for (std::size_t i = 0; i < some.size(); i += 2) some[i] = -1 - static_cast<std::int32_t>(i) % 3;
  const Twin partly = bench.integers({b, t + 3}, some),
             chosen = bench.integers({3}, {static_cast<std::int32_t>(v) - 1, -1, 1});
  run(bench, embedding_forward, [&](auto on) {
    return EmbeddingForward{
        .tokens = partly.*on, .first = first, .table = weight.*on, .chosen = chosen.*on, .out = out.*on};
  });
  CHECK(bench.difference(out) == "");
  const Tensor magnitude = bench.absolutes(dtable.cpu);
  embedding_backward_weight(
      bench.cpu(),
      {.dout = bench.absolutes(dout.cpu), .tokens = ids.cpu, .first = first, .dtable = magnitude});
  run(bench, embedding_backward_weight, [&](auto on) {
    return EmbeddingBackwardWeight{.dout = dout.*on, .tokens = ids.*on, .first = first, .dtable = dtable.*on};
  });
  // All tokens may be the same, so that a row of the table sums all rows of dout.
  CHECK(bench.difference(dtable, {.terms = {{sum_roundoff(b * t + 1), magnitude}}}) == "");
}

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
  CHECK(bench.error(out) < tolerance(bench.dtype()));
  CHECK(bench.error(rstd) < 1e-5);

  const Twin dx = bench.poisoned({n, c}), again = bench.poisoned({n, c}),
             dw = bench.normal("dw", {c}, DType::f32, 1.0);
  run(bench, rms_norm_backward, [&](auto on) {
    return RmsNormBackward{.dout = {dout.*on, first},
                           .x = x.*on,
                           .weight = w.*on,
                           .rstd = rstd.*on,
                           .dx = dx.*on,
                           .dweight = dw.*on};
  });
  // With one column dx is the rounding error of a difference.
  CHECK(bench.error(dx) < (c == 1 ? 0.2 : tolerance(bench.dtype())));
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
  CHECK(bench.error(residual) < tolerance(bench.dtype()));
  CHECK(bench.error(again) < tolerance(bench.dtype()));
  CHECK(bench.error(dw) < 1e-5);
  const Twin without_dw = bench.poisoned({n, c});
  run(bench, rms_norm_backward, [&](auto on) {
    return RmsNormBackward{
        .dout = {dout.*on, first}, .x = x.*on, .weight = w.*on, .rstd = rstd.*on, .dx = without_dw.*on};
  });
  CHECK(relative_error(bench.download(without_dw), bench.download(dx)) == 0);
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

TEST_CASE("rope matches the CPU") {
  TwinBench bench(any_dtype());
  const auto [t, heads, size] = GENERATE(
      table<std::int64_t, std::int64_t, std::int64_t>({{1, 1, 2}, {7, 3, 6}, {33, 4, 32}, {65, 20, 128}}));
  CAPTURE(name_of(bench.dtype()), t, heads, size);
  const Twin qkv = bench.normal("qkv", {2, t, (heads + 1) * size});
  const auto [cos, sin] = bench.rope_tables(t, size, 100);
  for (const RopeDirection direction : {RopeDirection::forward, RopeDirection::backward}) {
    run(bench, rope, [&](auto on) {
      return Rope{.qkv = qkv.*on, .cos = cos.*on, .sin = sin.*on, .heads = heads, .direction = direction};
    });
    CHECK(bench.error(qkv) < tolerance(bench.dtype()));
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
  CHECK(bench.error(out) < tolerance(bench.dtype()));
  run(bench, swiglu_backward, [&](auto on) {
    return SwigluBackward{.dout = dout.*on, .gate_up = gate_up.*on, .dgate_up = apart.*on};
  });
  CHECK(bench.error(apart) < tolerance(bench.dtype()));
  run(bench, swiglu_backward, [&](auto on) {
    return SwigluBackward{.dout = dout.*on, .gate_up = gate_up.*on, .dgate_up = gate_up.*on, .out = dout.*on};
  });
  CHECK(bench.error(gate_up) < tolerance(bench.dtype()));
  CHECK(bench.error(dout) < tolerance(bench.dtype()));
}

TEST_CASE("activation matches the CPU, also in place") {
  TwinBench bench(any_dtype());
  const auto function = GENERATE(Activation::gelu, Activation::silu);
  const std::int64_t n = GENERATE(1, 7, 8, 4099, 65536);
  CAPTURE(name_of(bench.dtype()), static_cast<int>(function), n);
  const Twin x = bench.normal("x", {n}, 3), dout = bench.normal("dout", {n}),
             residual = bench.normal("residual", {n});
  const Twin out = bench.poisoned({n}), sum = bench.poisoned({n}), apart = bench.poisoned({n});
  run(bench, activation_forward,
      [&](auto on) { return ActivationForward{.function = function, .x = x.*on, .out = out.*on}; });
  CHECK(bench.error(out) < tolerance(bench.dtype()));
  run(bench, activation_forward, [&](auto on) {
    return ActivationForward{.function = function, .x = x.*on, .residual = residual.*on, .out = sum.*on};
  });
  CHECK(bench.error(sum) < tolerance(bench.dtype()));
  run(bench, activation_backward, [&](auto on) {
    return ActivationBackward{.function = function, .dout = dout.*on, .x = x.*on, .dx = apart.*on};
  });
  CHECK(bench.error(apart) < tolerance(bench.dtype()));
  run(bench, activation_backward, [&](auto on) {
    return ActivationBackward{.function = function, .dout = dout.*on, .x = x.*on, .dx = x.*on};
  });
  CHECK(bench.error(x) < tolerance(bench.dtype()));
}

TEST_CASE("embedding matches the CPU, with tokens that come often") {
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
  CHECK(bench.error(out) == 0);
  std::vector<std::int32_t> some = tokens;
  for (std::size_t i = 0; i < some.size(); i += 2) some[i] = -1 - static_cast<std::int32_t>(i) % 3;
  const Twin partly = bench.integers({b, t + 3}, some),
             chosen = bench.integers({3}, {static_cast<std::int32_t>(v) - 1, -1, 1});
  run(bench, embedding_forward, [&](auto on) {
    return EmbeddingForward{
        .tokens = partly.*on, .first = first, .table = weight.*on, .chosen = chosen.*on, .out = out.*on};
  });
  CHECK(bench.error(out) == 0);
  run(bench, embedding_backward_weight, [&](auto on) {
    return EmbeddingBackwardWeight{.dout = dout.*on, .tokens = ids.*on, .first = first, .dtable = dtable.*on};
  });
  CHECK(bench.error(dtable) < 1e-6);
}

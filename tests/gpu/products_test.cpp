// Linear layers and gated MLPs compared with the CPU, for shapes that fill whole tiles and shapes that do
// not.

#include <cmath>

#include "runtime/operators/products/linear.h"
#include "runtime/operators/products/linear_swiglu.h"
#include "runtime/operators/rowwise/swiglu.h"
#include "tests/gpu/twin.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// Bound of a product whose f32 sums of `count` terms are stored in `dtype`. `absolute` is Σ|terms| of each
/// sum.
Bound product_bound(DType dtype, std::int64_t count, const Tensor& absolute) {
  return {.relative = stored(dtype), .terms = {{sum_roundoff(count), absolute}}};
}

}  // namespace

TEST_CASE("linear matches the CPU, in both modes") {
  const bool deterministic = GENERATE(false, true);
  TwinBench bench(any_dtype(), deterministic);
  const auto [n, i, o] = GENERATE(table<std::int64_t, std::int64_t, std::int64_t>({{1, 1, 1},
                                                                                   {5, 3, 7},
                                                                                   {64, 64, 64},
                                                                                   {33, 40, 24},
                                                                                   {128, 256, 512},
                                                                                   {200, 130, 66},
                                                                                   {1000, 96, 257},
                                                                                   {512, 1, 256}}));
  CAPTURE(name_of(bench.dtype()), n, i, o);
  const Twin x = bench.normal("x", {n, i}), w = bench.normal("w", {o, i}),
             dout = bench.normal("dout", {n, o}), residual = bench.normal("residual", {n, o});
  const Twin out = bench.poisoned({n, o}), sum = bench.poisoned({n, o}), dx = bench.poisoned({n, i});
  const Twin dw = bench.normal("dw", {o, i}, DType::f32, 1.0);
  run(bench, linear_forward,
      [&](auto on) { return LinearForward{.x = x.*on, .weight = w.*on, .out = out.*on}; });
  // Unless determinism is requested, cuBLAS may add parts of a sum that are already rounded to the output's
  // dtype.
  const auto bound = [&](std::int64_t count, const Tensor& absolute, const Tensor& root_square) {
    Bound result = product_bound(bench.dtype(), count, absolute);
    if (!deterministic && bench.dtype() == DType::bf16)
      result.terms.push_back({rounded_terms(DType::bf16), root_square});
    return result;
  };
  const Tensor absolute = bench.absolute_products(x.cpu, w.cpu),
               root_square = bench.root_square_products(x.cpu, w.cpu);
  const auto with_residual = [&](const Twin& addend) {
    Bound result = bound(i + 1, absolute, root_square);
    result.terms.push_back({sum_roundoff(i + 1), bench.absolutes(addend.cpu)});
    return result;
  };
  CHECK(bench.difference(out, bound(i, absolute, root_square)) == "");
  run(bench, linear_forward, [&](auto on) {
    return LinearForward{.x = x.*on, .weight = w.*on, .residual = residual.*on, .out = sum.*on};
  });
  CHECK(bench.difference(sum, with_residual(residual)) == "");
  bench.copy_to_cpu(sum);
  const Bound in_place = with_residual(sum);
  run(bench, linear_forward, [&](auto on) {
    return LinearForward{.x = x.*on, .weight = w.*on, .residual = sum.*on, .out = sum.*on};
  });
  CHECK(bench.difference(sum, in_place) == "");
  run(bench, linear_backward_input,
      [&](auto on) { return LinearBackwardInput{.dout = dout.*on, .weight = w.*on, .dx = dx.*on}; });
  const auto dx_of = [&](const Tensor& of_dout, const Tensor& of_weight) {
    const Tensor result = bench.magnitudes({n, i});
    linear_backward_input(bench.cpu(), {.dout = of_dout, .weight = of_weight, .dx = result});
    return result;
  };
  const Tensor dx_squares = dx_of(bench.squares(dout.cpu), bench.squares(w.cpu));
  for (float& value : dx_squares.span<float>()) value = std::sqrt(value);
  CHECK(bench.difference(
            dx, bound(o, dx_of(bench.absolutes(dout.cpu), bench.absolutes(w.cpu)), dx_squares)) == "");
  const Tensor dw_absolute = bench.absolutes(dw.cpu);
  for (int times = 0; times < 2; ++times) {
    run(bench, linear_backward_weight,
        [&](auto on) { return LinearBackwardWeight{.dout = dout.*on, .x = x.*on, .dweight = dw.*on}; });
    linear_backward_weight(
        bench.cpu(),
        {.dout = bench.absolutes(dout.cpu), .x = bench.absolutes(x.cpu), .dweight = dw_absolute});
  }
  CHECK(bench.difference(dw, product_bound(DType::f32, 2 * n + 1, dw_absolute)) == "");
}

TEST_CASE("a weight gradient that overwrites has the bits of one that accumulates onto zeros") {
  TwinBench bench(any_dtype(), true);
  const auto [n, i, o] = GENERATE(table<std::int64_t, std::int64_t, std::int64_t>(
      {{1, 1, 1}, {5, 3, 7}, {64, 64, 64}, {1000, 96, 257}, {4096, 128, 64}}));
  CAPTURE(name_of(bench.dtype()), n, i, o);
  const Twin x = bench.normal("x", {n, i}), dout = bench.normal("dout", {n, o});
  const Twin dw = bench.poisoned({o, i}, DType::f32), zeros = bench.zeros({o, i}, DType::f32);
  for (const bool accumulate : {false, true}) {
    run(bench, linear_backward_weight, [&](auto on) {
      return LinearBackwardWeight{.dout = dout.*on, .x = x.*on, .dweight = dw.*on, .accumulate = accumulate};
    });
    linear_backward_weight(bench.gpu(), {.dout = dout.gpu, .x = x.gpu, .dweight = zeros.gpu});
    const Tensor absolute = bench.magnitudes({o, i});
    for (int times = 0; times < (accumulate ? 2 : 1); ++times)
      linear_backward_weight(
          bench.cpu(), {.dout = bench.absolutes(dout.cpu), .x = bench.absolutes(x.cpu), .dweight = absolute});
    CHECK(bench.difference(dw, product_bound(DType::f32, 2 * n, absolute)) == "");
    CHECK(mismatch(bench.download(dw), bench.download(zeros), 0, 0) == "");
  }
}

TEST_CASE("linear_swiglu matches the CPU, and backward's recomputed output has forward's bits") {
  TwinBench bench(any_dtype());
  // One token, one column less than a 16-byte access, one token more than a tile, several tiles in depth.
  const auto [n, c, f] = GENERATE(table<std::int64_t, std::int64_t, std::int64_t>({{1, 8, 8},
                                                                                   {5, 3, 7},
                                                                                   {64, 64, 64},
                                                                                   {257, 72, 136},
                                                                                   {129, 520, 1000},
                                                                                   {1000, 264, 328},
                                                                                   {2500, 128, 2048}}));
  CAPTURE(name_of(bench.dtype()), n, c, f);
  const double scale = 1 / std::sqrt(static_cast<double>(c));
  const Twin x = bench.normal("x", {n, c}), w = bench.normal("w", {2 * f, c}, scale),
             dout = bench.normal("dout", {n, c}), down = bench.normal("down", {c, f}, scale);
  const Twin gate_up = bench.poisoned({n, 2 * f}), gated = bench.poisoned({n, f});
  run(bench, linear_swiglu_forward, [&](auto on) {
    return LinearSwigluForward{.x = x.*on, .weight = w.*on, .gate_up = gate_up.*on, .gated = gated.*on};
  });
  CHECK(bench.difference(gate_up, product_bound(bench.dtype(), c, bench.absolute_products(x.cpu, w.cpu))) ==
        "");
  bench.copy_to_cpu(gate_up);
  swiglu_forward(bench.cpu(), {.gate_up = gate_up.cpu, .out = gated.cpu});
  CHECK(bench.difference(gated, {.relative = stored(bench.dtype()) + exp_roundoff}) == "");

  // dgated = dout · W_down is rounded to the dtype before dgate = dgated · up · silu'(gate), |silu'| < 1.1,
  // and dup = dgated · silu(gate), |silu(gate)| ≤ |gate|.
  const auto gradient_bound = [&](const Tensor& of_gate_up) {
    const Tensor dgated = bench.magnitudes({n, f}), absolute = bench.magnitudes({n, f}),
                 exact = bench.magnitudes({n, 2 * f}), sums = bench.magnitudes({n, 2 * f});
    linear_backward_input(bench.cpu(), {.dout = dout.cpu, .weight = down.cpu, .dx = dgated});
    linear_backward_input(
        bench.cpu(),
        {.dout = bench.absolutes(dout.cpu), .weight = bench.absolutes(down.cpu), .dx = absolute});
    for (std::int64_t at = 0; at < n * f; ++at) {
      const std::int64_t gate = at / f * 2 * f + at % f, up = gate + f;
      const float factors[2] = {1.1F * std::abs(of_gate_up.as<float>()[up]),
                                std::abs(of_gate_up.as<float>()[gate])};
      exact.as<float>()[gate] = factors[0] * std::abs(dgated.as<float>()[at]);
      exact.as<float>()[up] = factors[1] * std::abs(dgated.as<float>()[at]);
      sums.as<float>()[gate] = factors[0] * absolute.as<float>()[at];
      sums.as<float>()[up] = factors[1] * absolute.as<float>()[at];
    }
    return Bound{.relative = 2 * stored(bench.dtype()) + exp_roundoff,
                 .terms = {{exp_roundoff, exact}, {sum_roundoff(c), sums}}};
  };
  const Twin dgate_up = bench.poisoned({n, 2 * f}), again = bench.poisoned({n, f});
  const Bound apart = gradient_bound(gate_up.cpu);
  run(bench, linear_swiglu_backward_input, [&](auto on) {
    return LinearSwigluBackwardInput{.dout = dout.*on,
                                     .weight = down.*on,
                                     .gate_up = gate_up.*on,
                                     .dgate_up = dgate_up.*on,
                                     .dgated = again.*on,
                                     .gated = again.*on};
  });
  CHECK(bench.difference(dgate_up, apart) == "");
  CHECK(mismatch(bench.download(again), bench.download(gated), 0, 0) == "");

  // dgate_up overwrites gate_up, whose gates are far from zero here.
  const Twin wide = bench.normal("gate_up", {n, 2 * f}, 3), scratch = bench.poisoned({n, f});
  const Bound in_place = gradient_bound(wide.cpu);
  run(bench, linear_swiglu_backward_input, [&](auto on) {
    return LinearSwigluBackwardInput{.dout = dout.*on,
                                     .weight = down.*on,
                                     .gate_up = wide.*on,
                                     .dgate_up = wide.*on,
                                     .dgated = scratch.*on};
  });
  CHECK(bench.difference(wide, in_place) == "");
}

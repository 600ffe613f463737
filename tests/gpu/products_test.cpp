// Linear layers and gated MLPs compared with the CPU, for shapes that fill whole tiles and shapes that do
// not.

#include <cmath>

#include "runtime/operators/products/linear.h"
#include "runtime/operators/products/linear_swiglu.h"
#include "tests/gpu/twin.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("linear matches the CPU") {
  TwinBench bench(any_dtype());
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
  CHECK(bench.error(out) < tolerance(bench.dtype()));
  run(bench, linear_forward, [&](auto on) {
    return LinearForward{.x = x.*on, .weight = w.*on, .residual = residual.*on, .out = sum.*on};
  });
  CHECK(bench.error(sum) < tolerance(bench.dtype()));
  run(bench, linear_forward, [&](auto on) {
    return LinearForward{.x = x.*on, .weight = w.*on, .residual = sum.*on, .out = sum.*on};
  });
  CHECK(bench.error(sum) < tolerance(bench.dtype()));
  run(bench, linear_backward_input,
      [&](auto on) { return LinearBackwardInput{.dout = dout.*on, .weight = w.*on, .dx = dx.*on}; });
  CHECK(bench.error(dx) < tolerance(bench.dtype()));
  for (int times = 0; times < 2; ++times)
    run(bench, linear_backward_weight,
        [&](auto on) { return LinearBackwardWeight{.dout = dout.*on, .x = x.*on, .dweight = dw.*on}; });
  CHECK(bench.error(dw) < 1e-5);  // products of bf16 are summed in fp32
}

TEST_CASE("a weight gradient that begins by overwriting has the bits of one that begins with zeros") {
  TwinBench bench(any_dtype(), true);
  const auto [n, i, o] = GENERATE(table<std::int64_t, std::int64_t, std::int64_t>(
      {{1, 1, 1}, {5, 3, 7}, {64, 64, 64}, {1000, 96, 257}, {4096, 128, 64}}));
  CAPTURE(name_of(bench.dtype()), n, i, o);
  const Twin x = bench.normal("x", {n, i}), dout = bench.normal("dout", {n, o});
  const Twin begun = bench.poisoned({o, i}, DType::f32), zeros = bench.zeros({o, i}, DType::f32);
  for (const bool accumulate : {false, true}) {
    run(bench, linear_backward_weight, [&](auto on) {
      return LinearBackwardWeight{
          .dout = dout.*on, .x = x.*on, .dweight = begun.*on, .accumulate = accumulate};
    });
    linear_backward_weight(bench.gpu(), {.dout = dout.gpu, .x = x.gpu, .dweight = zeros.gpu});
    CHECK(bench.error(begun) < 1e-5);
    CHECK(mismatch(bench.download(begun), bench.download(zeros), 0, 0) == "");
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
  CHECK(bench.error(gate_up) < tolerance(bench.dtype()));
  CHECK(bench.error(gated) < tolerance(bench.dtype()));

  const Twin dgate_up = bench.poisoned({n, 2 * f}), again = bench.poisoned({n, f});
  run(bench, linear_swiglu_backward_input, [&](auto on) {
    return LinearSwigluBackwardInput{.dout = dout.*on,
                                     .weight = down.*on,
                                     .gate_up = gate_up.*on,
                                     .dgate_up = dgate_up.*on,
                                     .dgated = again.*on,
                                     .gated = again.*on};
  });
  CHECK(bench.error(dgate_up) < tolerance(bench.dtype()));
  CHECK(relative_error(bench.download(again), bench.download(gated)) == 0);

  // In place, with gates far from zero.
  const Twin wide = bench.normal("gate_up", {n, 2 * f}, 3), scratch = bench.poisoned({n, f});
  run(bench, linear_swiglu_backward_input, [&](auto on) {
    return LinearSwigluBackwardInput{.dout = dout.*on,
                                     .weight = down.*on,
                                     .gate_up = wide.*on,
                                     .dgate_up = wide.*on,
                                     .dgated = scratch.*on};
  });
  CHECK(bench.error(wide) < tolerance(bench.dtype()));
}

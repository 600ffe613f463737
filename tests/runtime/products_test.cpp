// Linear layers, gated MLPs and the CPU's tiled products: backward compared with central differences of
// forward, in fp64.

#include <algorithm>
#include <numeric>
#include <vector>

#include "runtime/operators/products/linear.h"
#include "runtime/operators/products/linear_swiglu.h"
#include "runtime/operators/tile_product_cpu.h"
#include "tests/runtime/bench.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("linear backward matches finite differences, with and without a residual") {
  const bool with_residual = GENERATE(false, true);
  Bench bench;
  const Tensor x = bench.normal("x", {5, 3}), w = bench.normal("w", {4, 3}),
               dout = bench.normal("dout", {5, 4});
  const Tensor residual = with_residual ? bench.normal("residual", {5, 4}) : Tensor{};
  const Tensor out = bench.poisoned({5, 4}), dx = bench.poisoned({5, 3}), dw = bench.zeros({4, 3});
  const auto loss = [&] {
    linear_forward(bench.stream, {.x = x, .weight = w, .residual = residual, .out = out});
    return dot(out, dout);
  };
  linear_backward_input(bench.stream, {.dout = dout, .weight = w, .dx = dx});
  linear_backward_weight(bench.stream, {.dout = dout, .x = x, .dweight = dw});
  CHECK(gradient_mismatch(loss, x, dx) == "");
  CHECK(gradient_mismatch(loss, w, dw) == "");
}

TEST_CASE("the bits of a row of a linear layer do not depend on the number of rows") {
  Arena arena(DeviceKind::cpu);
  const DType dtype = GENERATE(DType::f32, DType::f64);
  TestStream stream(GENERATE(1, 3));
  struct Case {
    std::int64_t in, out;
  };
  const auto [in, out] = GENERATE(Case{128, 384}, Case{352, 257}, Case{7, 3}, Case{33, 70}, Case{1024, 96});
  constexpr std::int64_t most = 64;
  CAPTURE(name_of(dtype), in, out);
  const Tensor x = arena.tensor(dtype, {most, in}), w = arena.tensor(dtype, {out, in}),
               residual = arena.tensor(dtype, {most, out}), alone = arena.tensor(dtype, {most, out}),
               together = arena.tensor(dtype, {most, out});
  fill_normal(x, "x");
  fill_normal(w, "w");
  fill_normal(residual, "residual");
  const auto run = [&](std::int64_t rows, const Tensor& result) {
    for (std::int64_t i = 0; i < most; i += rows) {
      const std::int64_t n = std::min(rows, most - i);
      linear_forward(
          stream,
          {.x = x.rows(i, n), .weight = w, .residual = residual.rows(i, n), .out = result.rows(i, n)});
    }
  };
  run(1, alone);
  for (const std::int64_t rows : {2, 3, 4, 5, 7, 9, 16, 31, 64}) {
    poison(together);
    run(rows, together);
    CHECK(mismatch(together, alone, 0, 0) == "");
  }
}

TEST_CASE("a linear layer's weight gradient accumulates, or overwrites with the bits of a sum onto zeros") {
  Bench bench;
  const Tensor x = bench.normal("x", {5, 3}), dout = bench.normal("dout", {5, 4});
  const Tensor once = bench.zeros({4, 3}), twice = bench.zeros({4, 3});
  linear_backward_weight(bench.stream, {.dout = dout, .x = x, .dweight = once});
  for (int i = 0; i < 2; ++i) linear_backward_weight(bench.stream, {.dout = dout, .x = x, .dweight = twice});
  for (double& value : once.span<double>()) value *= 2;
  CHECK(mismatch(twice, once, 1e-14, 0) == "");

  const Tensor begun = bench.poisoned({4, 3});
  for (const bool accumulate : {false, true})
    linear_backward_weight(bench.stream, {.dout = dout, .x = x, .dweight = begun, .accumulate = accumulate});
  CHECK(mismatch(begun, twice, 0, 0) == "");
}

TEST_CASE("a linear layer refuses tensors of mismatched shapes and names them") {
  Bench bench;
  const Tensor x = bench.normal("x", {5, 3}), w = bench.normal("w", {4, 2}), out = bench.zeros({5, 4});
  CHECK_THROWS_WITH(linear_forward(bench.stream, {.x = x, .weight = w, .out = out}),
                    contains("x [5, 3], weight [4, 2], out [5, 4]"));
}

TEST_CASE("a gated MLP's backward matches finite differences and recomputes forward's output") {
  Bench bench;
  const Tensor x = bench.normal("x", {5, 3}), w = bench.normal("w", {14, 3}),
               down = bench.normal("down", {3, 7}), dout = bench.normal("dout", {5, 3});
  const Tensor gate_up = bench.poisoned({5, 14}), gated = bench.poisoned({5, 7}),
               out = bench.poisoned({5, 3});
  const auto loss = [&] {
    linear_swiglu_forward(bench.stream, {.x = x, .weight = w, .gate_up = gate_up, .gated = gated});
    linear_forward(bench.stream, {.x = gated, .weight = down, .out = out});
    return dot(out, dout);
  };
  loss();
  const Tensor dgate_up = bench.poisoned({5, 14}), again = bench.poisoned({5, 7}),
               dx = bench.poisoned({5, 3});
  linear_swiglu_backward_input(bench.stream, {.dout = dout,
                                              .weight = down,
                                              .gate_up = gate_up,
                                              .dgate_up = dgate_up,
                                              .dgated = again,
                                              .gated = again});
  CHECK(mismatch(again, gated, 1e-14, 0) == "");
  linear_backward_input(bench.stream, {.dout = dgate_up, .weight = w, .dx = dx});
  CHECK(gradient_mismatch(loss, x, dx) == "");

  loss();
  // dgate_up may overwrite gate_up.
  const Tensor scratch = bench.poisoned({5, 7});
  linear_swiglu_backward_input(
      bench.stream,
      {.dout = dout, .weight = down, .gate_up = gate_up, .dgate_up = gate_up, .dgated = scratch});
  CHECK(mismatch(gate_up, dgate_up, 0, 0) == "");
}

TEST_CASE("a gated MLP refuses tensors of mismatched shapes and names them") {
  Bench bench;
  const Tensor x = bench.normal("x", {5, 3}), w = bench.normal("w", {14, 3}), wide = bench.zeros({5, 14}),
               narrow = bench.zeros({5, 7});
  CHECK_THROWS_WITH(
      linear_swiglu_forward(bench.stream, {.x = x, .weight = w, .gate_up = narrow, .gated = narrow}),
      contains("x [5, 3], weight [14, 3], gate_up [5, 7], gated [5, 7]"));
  CHECK_THROWS_WITH(
      linear_swiglu_backward_input(
          bench.stream, {.dout = x, .weight = w, .gate_up = wide, .dgate_up = narrow, .dgated = narrow}),
      contains("dout [5, 3], weight [14, 3], gate_up [5, 14], dgate_up [5, 7], dgated [5, 7]"));
}

TEMPLATE_TEST_CASE("a tile product equals the triple loop whatever its shape and strides", "", float,
                   double) {
  const std::int64_t m = GENERATE(1, 5, 6, 21), n = GENERATE(1, 16, 39, 64), k = GENERATE(0, 1, 33);
  const bool transpose_a = GENERATE(false, true), accumulate = GENERATE(false, true);
  const std::int64_t a_row = transpose_a ? 1 : k + 3, a_column = transpose_a ? m + 2 : 1;
  const std::int64_t ldb = n + 5, ldc = n + 1;
  Arena arena{DeviceKind::cpu};
  const DType dtype = sizeof(TestType) == 4 ? DType::f32 : DType::f64;
  const Tensor a = arena.tensor(dtype, {(m + 3) * (k + 3)}), b = arena.tensor(dtype, {(k + 1) * ldb});
  const Tensor c = arena.tensor(dtype, {m * ldc}), expected = arena.tensor(dtype, {m * ldc});
  fill_normal(a, "a");
  fill_normal(b, "b");
  for (const Tensor& filled : {c, expected})
    fill_normal(filled, "c");  // C has one more column, which must not change
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t p = 0; p < k; ++p)
        sum += static_cast<double>(a.as<TestType>()[i * a_row + p * a_column]) *
               static_cast<double>(b.as<TestType>()[p * ldb + j]);
      TestType& element = expected.as<TestType>()[i * ldc + j];
      element = static_cast<TestType>((accumulate ? static_cast<double>(element) : 0.0) + 0.5 * sum);
    }
  cpu::tile_product(cpu::TileProduct<TestType>{.m = m,
                                               .n = n,
                                               .k = k,
                                               .a = a.as<TestType>(),
                                               .a_row = a_row,
                                               .a_column = a_column,
                                               .b = b.as<TestType>(),
                                               .ldb = ldb,
                                               .c = c.as<TestType>(),
                                               .ldc = ldc,
                                               .scale = TestType(0.5),
                                               .accumulate = accumulate});
  const double tolerance = sizeof(TestType) == 4 ? 1e-5 : 1e-13;
  CHECK(mismatch(c, expected, tolerance, tolerance) == "");
}

TEMPLATE_TEST_CASE("a transposed matrix has element (i, j) at (j, i)", "", float, double) {
  const std::int64_t m = GENERATE(1, 16, 37), n = GENERATE(3, 32, 50), ld_in = n + 2, ld_out = m + 1;
  std::vector<TestType> in(static_cast<std::size_t>(m * ld_in)), out(static_cast<std::size_t>(n * ld_out));
  std::iota(in.begin(), in.end(), TestType(1));
  cpu::transpose(m, n, in.data(), ld_in, out.data(), ld_out);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j)
      REQUIRE(out[static_cast<std::size_t>(j * ld_out + i)] == in[static_cast<std::size_t>(i * ld_in + j)]);
  for (std::int64_t j = 0; j < n; ++j) REQUIRE(out[static_cast<std::size_t>(j * ld_out + m)] == 0);
}

// Every operator's backward against central differences of its forward, in fp64.

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "runtime/operators/acceptance.h"
#include "runtime/operators/activation.h"
#include "runtime/operators/adamw.h"
#include "runtime/operators/attention.h"
#include "runtime/operators/cross_entropy_head.h"
#include "runtime/operators/elementwise.h"
#include "runtime/operators/embedding.h"
#include "runtime/operators/linear.h"
#include "runtime/operators/linear_swiglu.h"
#include "runtime/operators/reductions.h"
#include "runtime/operators/rms_norm.h"
#include "runtime/operators/rope.h"
#include "runtime/operators/swiglu.h"
#include "runtime/operators/tile_product_cpu.h"
#include "runtime/operators/vector_math.h"
#include "tests/support/catch.h"
#include "tests/support/numeric.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

struct Bench {
  Arena arena{DeviceKind::cpu};
  TestStream stream{2};

  Tensor normal(const std::string& name, const Shape& shape, double std = 1.0) {
    const Tensor tensor = arena.tensor(DType::f64, shape);
    fill_normal(tensor, name, std);
    return tensor;
  }
  Tensor poisoned(const Shape& shape) {
    const Tensor tensor = arena.tensor(DType::f64, shape);
    poison(tensor);
    return tensor;
  }
  Tensor zeros(const Shape& shape) { return arena.tensor(DType::f64, shape); }
  Tensor integers(const Shape& shape, std::initializer_list<std::int32_t> values) {
    const Tensor tensor = arena.tensor(DType::i32, shape);
    std::copy(values.begin(), values.end(), tensor.as<std::int32_t>());
    return tensor;
  }
};

}  // namespace

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

TEST_CASE("what a row of a linear layer gives has the same bits however many rows it comes with") {
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

TEST_CASE("a linear layer's weight gradient accumulates, or begins with the bits that zeros would give") {
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

TEST_CASE("a linear layer refuses tensors that do not fit and names them") {
  Bench bench;
  const Tensor x = bench.normal("x", {5, 3}), w = bench.normal("w", {4, 2}), out = bench.zeros({5, 4});
  CHECK_THROWS_WITH(linear_forward(bench.stream, {.x = x, .weight = w, .out = out}),
                    contains("x [5, 3], weight [4, 2], out [5, 4]"));
}

TEST_CASE("rms_norm backward matches finite differences, whole and as a column block") {
  const std::int64_t first = GENERATE(0, 7), stride = 14;
  Bench bench;
  const Tensor x = bench.normal("x", {5, 7}), w = bench.normal("w", {7});
  const Tensor rstd = bench.poisoned({5}), out = bench.zeros({5, stride}), dout = bench.zeros({5, stride});
  for (std::int64_t n = 0; n < 5; ++n)
    for (std::int64_t i = 0; i < 7; ++i)
      dout.as<double>()[n * stride + first + i] = std::sin(static_cast<double>(n * 7 + i));
  const auto loss = [&] {
    rms_norm_forward(bench.stream, {.x = x, .weight = w, .eps = 0.1, .out = {out, first}, .rstd = rstd});
    return dot(out, dout);
  };
  loss();
  const Tensor dx = bench.poisoned({5, 7}), dw = bench.zeros({7}), again = bench.poisoned({5, 7});
  RmsNormBackward backward{
      .dout = {dout, first}, .x = x, .weight = w, .rstd = rstd, .dx = dx, .dweight = dw, .out = again};
  rms_norm_backward(bench.stream, backward);
  for (std::int64_t n = 0; n < 5; ++n)
    for (std::int64_t i = 0; i < 7; ++i)
      CHECK(again.as<double>()[n * 7 + i] == out.as<double>()[n * stride + first + i]);

  // On top of what came along the residual, which may be in dx already.
  const Tensor residual = bench.normal("residual", {5, 7}), sum = bench.normal("residual", {5, 7});
  const Tensor apart = bench.poisoned({5, 7});
  backward.out = {};
  backward.dweight = bench.zeros({7});
  backward.residual = residual;
  backward.dx = apart;
  rms_norm_backward(bench.stream, backward);
  backward.residual = backward.dx = sum;
  rms_norm_backward(bench.stream, backward);
  CHECK(mismatch(sum, apart, 0, 0) == "");
  for (std::int64_t i = 0; i < 35; ++i)
    CHECK(sum.as<double>()[i] == Approx(residual.as<double>()[i] + dx.as<double>()[i]));
  CHECK(gradient_mismatch(loss, x, dx) == "");
  CHECK(gradient_mismatch(loss, w, dw) == "");
  backward.dweight = {};
  backward.residual = residual;
  rms_norm_backward(bench.stream, backward);
  CHECK(mismatch(sum, apart, 0, 0) == "");
}

TEST_CASE("rope turns each pair by its angle and backward turns it back") {
  Bench bench;
  const Tensor cos = bench.zeros({6, 2}), sin = bench.zeros({6, 2});
  rope_table(cos, sin, 100.0);
  const Tensor qkv = bench.normal("qkv", {2, 6, 12}), original = bench.normal("qkv", {2, 6, 12});
  rope(bench.stream, {.qkv = qkv, .cos = cos, .sin = sin, .heads = 2});
  // Position 3, head 1, pair 1: angle 3 · 100^(−1/2) = 0.3.
  const std::int64_t at = 3 * 12 + 4;
  const double a = original.as<double>()[at + 1], b = original.as<double>()[at + 3];
  CHECK(qkv.as<double>()[at + 1] == Approx(a * std::cos(0.3) - b * std::sin(0.3)));
  CHECK(qkv.as<double>()[at + 3] == Approx(b * std::cos(0.3) + a * std::sin(0.3)));
  CHECK(qkv.as<double>()[at + 4] == original.as<double>()[at + 4]);  // the value head stays
  rope(bench.stream, {.qkv = qkv, .cos = cos, .sin = sin, .heads = 2, .direction = RopeDirection::backward});
  CHECK(mismatch(qkv, original, 1e-12, 1e-12) == "");
}

TEST_CASE("swiglu backward matches finite differences") {
  Bench bench;
  const Tensor gate_up = bench.normal("gate_up", {5, 14}, 2.0), dout = bench.normal("dout", {5, 7});
  const Tensor out = bench.poisoned({5, 7}), dgate_up = bench.poisoned({5, 14});
  const auto loss = [&] {
    swiglu_forward(bench.stream, {.gate_up = gate_up, .out = out});
    return dot(out, dout);
  };
  swiglu_backward(bench.stream, {.dout = dout, .gate_up = gate_up, .dgate_up = dgate_up});
  CHECK(gradient_mismatch(loss, gate_up, dgate_up) == "");
}

TEST_CASE("a gated MLP's backward matches finite differences and gives forward's output again") {
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
  const Tensor scratch = bench.poisoned({5, 7});  // in place
  linear_swiglu_backward_input(
      bench.stream,
      {.dout = dout, .weight = down, .gate_up = gate_up, .dgate_up = gate_up, .dgated = scratch});
  CHECK(mismatch(gate_up, dgate_up, 0, 0) == "");
}

TEST_CASE("a gated MLP refuses tensors that do not fit and names them") {
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

TEST_CASE("activation values are those of their formulas, and backward matches finite differences") {
  const auto function = GENERATE(Activation::gelu, Activation::silu);
  const bool with_residual = GENERATE(false, true);
  Bench bench;
  const Tensor x = bench.normal("x", {5, 7}, 2.0), dout = bench.normal("dout", {5, 7});
  const Tensor residual = with_residual ? bench.normal("residual", {5, 7}) : Tensor{};
  const Tensor out = bench.poisoned({5, 7}), dx = bench.poisoned({5, 7});
  const auto loss = [&] {
    activation_forward(bench.stream, {.function = function, .x = x, .residual = residual, .out = out});
    return dot(out, dout);
  };
  loss();
  for (std::int64_t i = 0; i < x.elements(); ++i) {
    const double at = x.as<double>()[i], added = with_residual ? residual.as<double>()[i] : 0;
    const double value =
        function == Activation::gelu ? at * 0.5 * std::erfc(-at / std::sqrt(2.0)) : at / (1 + std::exp(-at));
    CHECK(std::abs(out.as<double>()[i] - value - added) < 1e-14);
  }
  activation_backward(bench.stream, {.function = function, .dout = dout, .x = x, .dx = dx});
  CHECK(gradient_mismatch(loss, x, dx) == "");
  // In place of either of its inputs.
  for (const bool into_x : {false, true}) {
    const Tensor again = bench.normal("x", {5, 7}, 2.0), same = bench.normal("dout", {5, 7});
    const Tensor& place = into_x ? again : same;
    activation_backward(bench.stream, {.function = function, .dout = same, .x = again, .dx = place});
    CHECK(mismatch(place, dx, 0, 0) == "");
  }
}

TEST_CASE("embedding looks a window up and its backward adds repeated tokens") {
  Bench bench;
  const Tensor tokens = bench.integers({2, 4}, {1, 3, 3, 0, 2, 1, 3, 3});
  const Tensor table = bench.normal("table", {4, 3}), dout = bench.normal("dout", {2, 3, 3});
  const Tensor out = bench.poisoned({2, 3, 3}), dtable = bench.zeros({4, 3});
  const auto loss = [&] {
    embedding_forward(bench.stream, {.tokens = tokens, .first = 1, .table = table, .out = out});
    return dot(out, dout);
  };
  embedding_backward_weight(bench.stream, {.dout = dout, .tokens = tokens, .first = 1, .dtable = dtable});
  CHECK(gradient_mismatch(loss, table, dtable) == "");
  // The same tokens, some of them chosen elsewhere: the first of these is none.
  embedding_forward(bench.stream, {.tokens = tokens, .first = 1, .table = table, .out = out});
  const Tensor again = bench.poisoned({2, 3, 3});
  embedding_forward(bench.stream, {.tokens = bench.integers({2, 4}, {1, -2, 3, -1, 2, -3, 3, -2}),
                                   .first = 1,
                                   .table = table,
                                   .chosen = bench.integers({3}, {-1, 3, 1}),
                                   .out = again});
  CHECK(mismatch(again, out, 0, 0) == "");
}

TEST_CASE("attention backward matches finite differences, grouped and across documents or not") {
  const auto [query, key_value] = GENERATE(std::pair{2, 2}, std::pair{4, 2}, std::pair{3, 1});
  const bool documents = GENERATE(false, true);
  const AttentionHeads heads{.query = query, .key_value = key_value, .dim = 3};
  Bench bench;
  const Shape qkv_shape{2, 5, (query + 2 * key_value) * 3}, out_shape{2, 5, query * 3};
  const Tensor starts =
      documents ? bench.integers({2, 6}, {0, 0, 2, 2, 2, 5, -1, -1, -1, -1, 4, 4}) : Tensor{};
  const Tensor qkv = bench.normal("qkv", qkv_shape), dout = bench.normal("dout", out_shape);
  const Tensor out = bench.poisoned(out_shape), lse = bench.poisoned({2, query, 5}),
               dqkv = bench.poisoned(qkv_shape);
  const auto loss = [&] {
    attention_forward(bench.stream,
                      {.heads = heads, .qkv = qkv, .document_start = starts, .out = out, .lse = lse});
    return dot(out, dout);
  };
  loss();
  attention_backward(bench.stream, {.heads = heads,
                                    .dout = dout,
                                    .qkv = qkv,
                                    .document_start = starts,
                                    .out = out,
                                    .lse = lse,
                                    .dqkv = dqkv});
  CHECK(gradient_mismatch(loss, qkv, dqkv) == "");
}

TEST_CASE("with rope's tables attention backward gives the gradient of what rope has not turned yet") {
  const AttentionHeads heads{.query = 4, .key_value = 2, .dim = 6};
  const Shape qkv_shape{2, 5, 48}, out_shape{2, 5, 24};
  Bench bench;
  const Tensor cos = bench.zeros({7, 3}), sin = bench.zeros({7, 3});  // longer than the rows
  rope_table(cos, sin, 10.0);
  const Tensor unturned = bench.normal("qkv", qkv_shape), dout = bench.normal("dout", out_shape);
  const Tensor qkv = bench.poisoned(qkv_shape), out = bench.poisoned(out_shape),
               lse = bench.poisoned({2, 4, 5}), dqkv = bench.poisoned(qkv_shape);
  const auto loss = [&] {
    copy(bench.stream, unturned, qkv);
    rope(bench.stream, {.qkv = qkv, .cos = cos, .sin = sin, .heads = 6});
    attention_forward(bench.stream, {.heads = heads, .qkv = qkv, .out = out, .lse = lse});
    return dot(out, dout);
  };
  loss();
  AttentionBackward backward{.heads = heads,
                             .dout = dout,
                             .qkv = qkv,
                             .out = out,
                             .lse = lse,
                             .rope_cos = cos,
                             .rope_sin = sin,
                             .dqkv = dqkv};
  attention_backward(bench.stream, backward);
  CHECK(gradient_mismatch(loss, unturned, dqkv) == "");
  backward.rope_cos = cos.rows(0, 4);
  CHECK_THROWS_WITH(attention_backward(bench.stream, backward),
                    contains("rope_cos [4, 3], rope_sin [7, 3] for rows of 5 with heads of 6"));
}

TEST_CASE("attention over more than one block of queries equals the definition") {
  const std::int64_t t = GENERATE(63, 64, 65, 150);
  Bench bench;
  const Tensor qkv = bench.normal("qkv", {1, t, 12}), out = bench.poisoned({1, t, 4}),
               lse = bench.poisoned({1, 1, t});
  const Tensor starts = bench.arena.tensor(DType::i32, {1, t});
  for (std::int64_t i = 0; i < t; ++i) starts.as<std::int32_t>()[i] = static_cast<std::int32_t>(i / 40 * 40);
  attention_forward(bench.stream, {.heads = {.query = 1, .key_value = 1, .dim = 4},
                                   .qkv = qkv,
                                   .document_start = starts,
                                   .out = out,
                                   .lse = lse});
  const Tensor expected = bench.zeros({1, t, 4});
  for (std::int64_t i = 0; i < t; ++i) {
    const double* x = qkv.as<double>();
    std::vector<double> weight(static_cast<std::size_t>(t), 0.0);
    double sum = 0;
    for (std::int64_t u = i / 40 * 40; u <= i; ++u) {
      double score = 0;
      for (std::int64_t c = 0; c < 4; ++c) score += x[i * 12 + c] * x[u * 12 + 4 + c] / 2;
      sum += weight[static_cast<std::size_t>(u)] = std::exp(score);
    }
    for (std::int64_t u = 0; u <= i; ++u)
      for (std::int64_t c = 0; c < 4; ++c)
        expected.as<double>()[i * 4 + c] += weight[static_cast<std::size_t>(u)] / sum * x[u * 12 + 8 + c];
    REQUIRE(lse.as<double>()[i] == Approx(std::log(sum)));
  }
  CHECK(mismatch(out, expected, 1e-10, 1e-12) == "");
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
  for (const Tensor& filled : {c, expected}) fill_normal(filled, "c");  // its last column must stay
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

TEMPLATE_TEST_CASE("a transposed matrix has every element in its place", "", float, double) {
  const std::int64_t m = GENERATE(1, 16, 37), n = GENERATE(3, 32, 50), ld_in = n + 2, ld_out = m + 1;
  std::vector<TestType> in(static_cast<std::size_t>(m * ld_in)), out(static_cast<std::size_t>(n * ld_out));
  std::iota(in.begin(), in.end(), TestType(1));
  cpu::transpose(m, n, in.data(), ld_in, out.data(), ld_out);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j)
      REQUIRE(out[static_cast<std::size_t>(j * ld_out + i)] == in[static_cast<std::size_t>(i * ld_in + j)]);
  for (std::int64_t j = 0; j < n; ++j) REQUIRE(out[static_cast<std::size_t>(j * ld_out + m)] == 0);
}

TEST_CASE("the cross-entropy head's gradients match finite differences whatever the chunk") {
  const std::int64_t chunk = GENERATE(1, 3, 10);
  Bench bench;
  const Tensor tokens = bench.integers({2, 7}, {1, 3, 3, 0, 2, 1, 4, 3, 3, 0, 2, 1, 3, 0});
  // A document border in row 0, a row 1 that does not count from its third position on.
  const Tensor starts = bench.integers({2, 7}, {0, 0, 0, 3, 3, 3, 3, 0, 0, -1, -1, -1, -1, -1});
  const Targets targets{.tokens = tokens, .document_start = starts, .ahead = 2};
  const Tensor x = bench.normal("x", {2, 5, 3}), w = bench.normal("w", {5, 3}),
               logits = bench.poisoned({chunk, 5});
  const bool accumulate = GENERATE(false, true);
  const Tensor dx = bench.poisoned({2, 5, 3}), dw = accumulate ? bench.zeros({5, 3}) : bench.poisoned({5, 3});
  const Tensor sum = bench.zeros({1}), argmax = bench.integers({2, 5}, {});
  const auto loss = [&] {
    set_zero(bench.stream, sum);
    cross_entropy_head(bench.stream,
                       {.x = x, .weight = w, .targets = targets, .logits = logits, .loss_sum = sum});
    return 0.25 * *sum.as<double>();
  };
  // Row 0: 0→2 and 3→5, 4→6 stay in their documents. Row 1: none.
  CHECK(count_targets(targets, 5) == 3);
  cross_entropy_head(bench.stream, {.x = x,
                                    .weight = w,
                                    .targets = targets,
                                    .gradient_scale = 0.25,
                                    .logits = logits,
                                    .loss_sum = sum,
                                    .argmax = argmax,
                                    .dx = dx,
                                    .dweight = dw,
                                    .accumulate = accumulate});
  CHECK(0.25 * *sum.as<double>() == Approx(loss()).epsilon(1e-12));
  for (std::int64_t n = 0; n < 10; ++n) {
    const auto logit = [&](std::int64_t v) {
      double product = 0;
      for (std::int64_t i = 0; i < 3; ++i) product += x.as<double>()[n * 3 + i] * w.as<double>()[v * 3 + i];
      return product;
    };
    for (std::int64_t v = 0; v < 5; ++v) CHECK(logit(argmax.as<std::int32_t>()[n]) >= logit(v) - 1e-12);
  }
  CHECK(gradient_mismatch(loss, x, dx) == "");
  CHECK(gradient_mismatch(loss, w, dw) == "");

  // Either gradient alone has the same bits.
  const Tensor dx_alone = bench.poisoned({2, 5, 3}), dw_alone = bench.zeros({5, 3});
  CrossEntropyHead alone{.x = x,
                         .weight = w,
                         .targets = targets,
                         .gradient_scale = 0.25,
                         .logits = logits,
                         .loss_sum = sum,
                         .dx = dx_alone};
  cross_entropy_head(bench.stream, alone);
  alone.dx = {};
  alone.dweight = dw_alone;
  cross_entropy_head(bench.stream, alone);
  CHECK(mismatch(dx_alone, dx, 0, 0) == "");
  CHECK(mismatch(dw_alone, dw, 0, 0) == "");
}

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

TEST_CASE("checksum sees a changed, a moved and a negated element") {
  Bench bench;
  const Tensor x = bench.normal("x", {1000});
  const std::uint64_t before = checksum(bench.stream, x);
  CHECK(checksum(bench.stream, bench.normal("x", {1000})) == before);
  std::swap(x.as<double>()[3], x.as<double>()[700]);
  CHECK(checksum(bench.stream, x) != before);
  std::swap(x.as<double>()[3], x.as<double>()[700]);
  x.as<double>()[5] = -x.as<double>()[5];
  CHECK(checksum(bench.stream, x) != before);
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

TEST_CASE("bf16 rounds to nearest, ties to even") {
  CHECK(static_cast<float>(BFloat16(1.0F + 0x1p-8F)) == 1.0F);
  CHECK(static_cast<float>(BFloat16(1.0F + 3 * 0x1p-8F)) == 1.0F + 0x1p-6F);
  CHECK(static_cast<float>(BFloat16(1.0F + 0x1.1p-8F)) == 1.0F + 0x1p-7F);
  CHECK(std::isnan(static_cast<float>(BFloat16(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(std::isinf(static_cast<float>(BFloat16(3.4e38F))));
}

TEST_CASE("the vectorised exp is exact to 2e-7 relative over its range") {
  for (float x = -87.0F; x < 88.0F; x += 0.0137F)
    REQUIRE(std::abs(cpu::exp(x) / std::exp(static_cast<double>(x)) - 1) < 2e-7);
  CHECK(cpu::exp(-1000.0F) < 1e-37F);
  CHECK(std::isfinite(cpu::exp(1000.0F)));
}

TEST_CASE("the vectorised exp of doubles is exact to 2 ulp over its range, and 0 below it") {
  for (double x = -708; x < 709; x += 0.00137) {
    const double expected = std::exp(x);
    REQUIRE(std::abs(cpu::exp(x) - expected) <= 2 * (std::nextafter(expected, INFINITY) - expected));
  }
  CHECK(cpu::exp(0.0) == 1);
  CHECK(cpu::exp(-709.0) == 0);
  CHECK(cpu::exp(-std::numeric_limits<double>::infinity()) == 0);
  CHECK(std::isfinite(cpu::exp(1000.0)));
}

TEST_CASE("the vectorised erf is exact to 2e-7") {
  for (float x = -12.0F; x < 12.0F; x += 0.0013F)
    REQUIRE(std::abs(cpu::erf(x) - std::erf(static_cast<double>(x))) < 2e-7);
  CHECK(cpu::erf(1e10F) == 1);
  CHECK(cpu::erf(-1e10F) == -1);
}

TEST_CASE("an operator in f32 agrees with itself in f64") {
  Arena arena{DeviceKind::cpu};
  TestStream stream{2};
  const auto run = [&](DType dtype) {
    const Tensor qkv = arena.tensor(dtype, {2, 70, 48}), out = arena.tensor(dtype, {2, 70, 16});
    const Tensor lse = arena.tensor(dtype, {2, 2, 70}), dqkv = arena.tensor(dtype, {2, 70, 48});
    fill_normal(qkv, "qkv");
    attention_forward(stream, {.heads = {2, 2, 8}, .qkv = qkv, .out = out, .lse = lse});
    attention_backward(stream,
                       {.heads = {2, 2, 8}, .dout = out, .qkv = qkv, .out = out, .lse = lse, .dqkv = dqkv});
    const Tensor gated = arena.tensor(dtype, {140, 24});
    swiglu_forward(stream, {.gate_up = dqkv.view({140, 48}), .out = gated});
    return gated;
  };
  CHECK(mismatch(run(DType::f32), run(DType::f64), 1e-4, 1e-5) == "");
}

TEST_CASE("drafts are accepted as a prefix, inside the row and the document") {
  Bench bench;
  // Two rows of 5, depths 1 and 2. The second row's document ends after its third token.
  const Tensor main = bench.integers({2, 5}, {1, 2, 3, 4, 5, 1, 2, 3, 4, 5});
  const Tensor first = bench.integers({2, 5}, {2, 3, 9, 5, 9, 2, 3, 4, 5, 9}),
               second = bench.integers({2, 5}, {3, 9, 5, 9, 9, 3, 4, 5, 9, 9});
  const Tensor start = bench.integers({2, 8}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 3, 3, 3});
  const Tensor agrees = bench.integers({2, 5}, {7, 7, 7, 7, 7, 0, 0, 0, 0, 0});
  const Tensor drafts = bench.zeros({3}), accepted = bench.zeros({3});
  const auto count = [&](std::int64_t depth, const Tensor& draft) {
    count_acceptances(bench.stream, {.main = main,
                                     .draft = draft,
                                     .document_start = start,
                                     .depth = depth,
                                     .agrees = agrees,
                                     .drafts = drafts.flat(depth - 1, 1),
                                     .accepted = accepted.flat(depth - 1, 1)});
  };
  count(1, first);
  count(2, second);
  // Row 1: i = 0..3 and 0..2. Row 2: i = 0 has t₂ in its document, i = 3 t₅; i = 3 at depth 2 is past the
  // row.
  CHECK(drafts.as<double>()[0] == 4 + 2);
  CHECK(accepted.as<double>()[0] == 3 + 2);
  CHECK(drafts.as<double>()[1] == 3 + 0);
  CHECK(accepted.as<double>()[1] == 1);  // at i = 2 depth 2 is right, but depth 1 is not
  CHECK_THROWS_WITH(count(3, first), contains("count_acceptances") && contains("at depth 3"));
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

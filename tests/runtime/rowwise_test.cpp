// Operators on independent rows: backward compared with central differences of forward, in fp64.

#include <cmath>

#include "runtime/operators/rowwise/activation.h"
#include "runtime/operators/rowwise/rms_norm.h"
#include "runtime/operators/rowwise/rope.h"
#include "runtime/operators/rowwise/swiglu.h"
#include "runtime/operators/vocabulary/embedding.h"
#include "tests/runtime/bench.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

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

  // Adds the gradient of the residual path. The residual may alias dx.
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

TEST_CASE("rope rotates each pair by its angle and backward rotates it back") {
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
  CHECK(qkv.as<double>()[at + 4] == original.as<double>()[at + 4]);  // the value head does not change
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
  // dx may alias either input.
  for (const bool into_x : {false, true}) {
    const Tensor again = bench.normal("x", {5, 7}, 2.0), same = bench.normal("dout", {5, 7});
    const Tensor& place = into_x ? again : same;
    activation_backward(bench.stream, {.function = function, .dout = same, .x = again, .dx = place});
    CHECK(mismatch(place, dx, 0, 0) == "");
  }
}

TEST_CASE("embedding reads a window of tokens, and its backward adds the gradients of repeated tokens") {
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
  // The same tokens, but some are read from `chosen`, whose first entry, −1, stands for token 0.
  embedding_forward(bench.stream, {.tokens = tokens, .first = 1, .table = table, .out = out});
  const Tensor again = bench.poisoned({2, 3, 3});
  embedding_forward(bench.stream, {.tokens = bench.integers({2, 4}, {1, -2, 3, -1, 2, -3, 3, -2}),
                                   .first = 1,
                                   .table = table,
                                   .chosen = bench.integers({3}, {-1, 3, 1}),
                                   .out = again});
  CHECK(mismatch(again, out, 0, 0) == "");
}

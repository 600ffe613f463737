// Attention in fp64: forward compared with the formula in attention.h, backward with central differences of
// forward.

#include "runtime/operators/attention/attention.h"

#include <cmath>
#include <vector>

#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/rowwise/rope.h"
#include "runtime/operators/rowwise/swiglu.h"
#include "tests/runtime/bench.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

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

TEST_CASE("with rope's tables attention backward returns the gradient of qkv before rope") {
  const AttentionHeads heads{.query = 4, .key_value = 2, .dim = 6};
  const Shape qkv_shape{2, 5, 48}, out_shape{2, 5, 24};
  Bench bench;
  const Tensor cos = bench.zeros({7, 3}),
               sin = bench.zeros({7, 3});  // tables of more positions than the rows have
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

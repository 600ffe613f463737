// Every CUDA operator against its CPU twin, in bf16 and fp32, over shapes that fill packs and tiles and
// shapes that do not.

#include <cmath>

#include "runtime/operators/acceptance.h"
#include "runtime/operators/activation.h"
#include "runtime/operators/adamw.h"
#include "runtime/operators/attention.h"
#include "runtime/operators/cross_entropy_head.h"
#include "runtime/operators/embedding.h"
#include "runtime/operators/linear.h"
#include "runtime/operators/linear_swiglu.h"
#include "runtime/operators/random_normal.h"
#include "runtime/operators/reductions.h"
#include "runtime/operators/rms_norm.h"
#include "runtime/operators/rope.h"
#include "runtime/operators/swiglu.h"
#include "tests/gpu/twin.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// Runs the operator on both devices; op(on) names its tensors, `on` being &Twin::cpu or &Twin::gpu.
template <class Op, class Make>
void run(TwinBench& bench, void (*function)(Stream&, const Op&), const Make& op) {
  function(bench.cpu(), op(&Twin::cpu));
  function(bench.gpu(), op(&Twin::gpu));
}

DType any_dtype() {
  return GENERATE(DType::f32, DType::bf16);
}

}  // namespace

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
  CHECK(bench.error(dw) < 1e-5);  // sums of products of bf16 are taken in fp32
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
  // With one column dx is what rounding leaves of a difference.
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

TEST_CASE("rope matches the CPU") {
  TwinBench bench(any_dtype());
  const auto [t, heads, size] = GENERATE(
      table<std::int64_t, std::int64_t, std::int64_t>({{1, 1, 2}, {7, 3, 6}, {33, 4, 32}, {65, 20, 128}}));
  CAPTURE(name_of(bench.dtype()), t, heads, size);
  const Twin qkv = bench.normal("qkv", {2, t, (heads + 1) * size});
  const Twin cos = bench.zeros({t, size / 2}, bench.statistics()),
             sin = bench.zeros({t, size / 2}, bench.statistics());
  rope_table(cos.cpu, sin.cpu, 100);
  bench.upload(cos);
  bench.upload(sin);
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

TEST_CASE("linear_swiglu matches the CPU, and backward's recomputed output has forward's bits") {
  TwinBench bench(any_dtype());
  // A column short of a tile, of a 16-byte piece; one token, a token more than a tile, several tiles deep.
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

  // In place, from gates far from zero.
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

TEST_CASE("attention matches the CPU, with and without documents and rope's tables, in both modes") {
  const bool deterministic = GENERATE(false, true);
  TwinBench bench(any_dtype(), deterministic);
  const auto [b, t, heads, key_value, size] = GENERATE(
      table<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t>({{1, 1, 1, 1, 2},
                                                                                   {2, 7, 2, 1, 6},
                                                                                   {2, 65, 4, 2, 32},
                                                                                   {1, 200, 6, 1, 64},
                                                                                   {2, 129, 2, 2, 80},
                                                                                   {1, 256, 4, 4, 128},
                                                                                   {1, 333, 2, 1, 128}}));
  const bool documents = GENERATE(false, true), with_rope = GENERATE(false, true);
  CAPTURE(name_of(bench.dtype()), deterministic, b, t, heads, key_value, size, documents, with_rope);
  const AttentionHeads shape{.query = heads, .key_value = key_value, .dim = size};
  const Twin qkv = bench.normal("qkv", {b, t, (heads + 2 * key_value) * size});
  Twin start;
  if (documents) {  // a document of one token, some of a few, one that is long; rows that do not count
    std::vector<std::int32_t> starts;
    for (std::int64_t row = 0; row < b; ++row)
      for (std::int64_t at = 0; at < t + 2; ++at)
        starts.push_back(row == 1     ? -1
                         : at < 5     ? (at < 1 ? 0 : 1)
                         : at < t / 2 ? static_cast<std::int32_t>(at / 5 * 5)
                                      : static_cast<std::int32_t>(t / 2));
    for (std::size_t at = 1; at < starts.size(); ++at)
      if (at % static_cast<std::size_t>(t + 2) != 0) starts[at] = std::max(starts[at], starts[at - 1]);
    start = bench.integers({b, t + 2}, starts);
  }
  const Twin out = bench.poisoned({b, t, heads * size}),
             lse = bench.poisoned({b, heads, t}, bench.statistics());
  run(bench, attention_forward, [&](auto on) {
    return AttentionForward{
        .heads = shape, .qkv = qkv.*on, .document_start = start.*on, .out = out.*on, .lse = lse.*on};
  });
  CHECK(bench.error(out) < 2 * tolerance(bench.dtype()));
  CHECK(bench.error(lse) < tolerance(bench.dtype()));
  const Twin dout = bench.normal("dout", {b, t, heads * size}), dqkv = bench.poisoned(qkv.cpu.shape);
  Twin cos, sin;
  if (with_rope) {
    cos = bench.zeros({t, size / 2}, bench.statistics());
    sin = bench.zeros({t, size / 2}, bench.statistics());
    rope_table(cos.cpu, sin.cpu, 100);
    bench.upload(cos);
    bench.upload(sin);
  }
  run(bench, attention_backward, [&](auto on) {
    return AttentionBackward{.heads = shape,
                             .dout = dout.*on,
                             .qkv = qkv.*on,
                             .document_start = start.*on,
                             .out = out.*on,
                             .lse = lse.*on,
                             .rope_cos = cos.*on,
                             .rope_sin = sin.*on,
                             .dqkv = dqkv.*on};
  });
  CHECK(bench.error(dqkv) < 2 * tolerance(bench.dtype()));
}

TEST_CASE("the cross-entropy head matches the CPU: loss, argmax and gradients, whatever the chunk") {
  TwinBench bench(any_dtype());
  const auto [b, t, c, v, chunk] = GENERATE(
      table<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t>({{1, 1, 8, 2, 1},
                                                                                   {2, 5, 8, 11, 3},
                                                                                   {2, 33, 64, 257, 64},
                                                                                   {1, 40, 128, 32768, 40},
                                                                                   {1, 9, 64, 129281, 4}}));
  CAPTURE(name_of(bench.dtype()), b, t, c, v, chunk);
  const CounterRng rng(3, "targets");
  std::vector<std::int32_t> tokens, starts;
  for (std::int64_t i = 0; i < b * (t + 2); ++i) {
    tokens.push_back(
        static_cast<std::int32_t>(rng.u64(static_cast<std::uint64_t>(i)) % static_cast<std::uint64_t>(v)));
    starts.push_back(i / (t + 2) == 1 && i % (t + 2) > t / 2 ? -1 : i % (t + 2) < 3 ? 0 : 3);
  }
  const Twin ids = bench.integers({b, t + 2}, tokens), start = bench.integers({b, t + 2}, starts);
  const Twin x = bench.normal("x", {b, t, c}), w = bench.normal("w", {v, c}, 0.3),
             logits = bench.poisoned({chunk, v}), dx = bench.poisoned({b, t, c});
  const Twin loss = bench.zeros({1}, DType::f64), dw = bench.normal("dw", {v, c}, DType::f32, 1e-4);
  const Twin argmax = bench.integers({b, t}, std::vector<std::int32_t>(static_cast<std::size_t>(b * t), -7));
  const auto head = [&](Tensor Twin::*on) {
    return CrossEntropyHead{.x = x.*on,
                            .weight = w.*on,
                            .targets = {.tokens = ids.*on, .document_start = start.*on, .ahead = 2},
                            .gradient_scale = 0.01,
                            .logits = logits.*on,
                            .loss_sum = loss.*on,
                            .argmax = argmax.*on,
                            .dx = dx.*on,
                            .dweight = dw.*on};
  };
  run(bench, cross_entropy_head, head);
  CHECK(bench.error(loss) < tolerance(bench.dtype()));
  CHECK(bench.error(dx) < 2 * tolerance(bench.dtype()));
  CHECK(bench.error(dw) < 2 * tolerance(bench.dtype()));
  // Logits that bf16 rounds to one value have several likeliest tokens.
  const Tensor found = bench.download(argmax);
  std::int64_t different = 0;
  for (std::int64_t i = 0; i < b * t; ++i)
    different += found.as<std::int32_t>()[i] != argmax.cpu.as<std::int32_t>()[i];
  CHECK(different <= (bench.dtype() == DType::bf16 ? (b * t + 5) / 6 : 0));

  // Each gradient without the other.
  const Twin dx_alone = bench.poisoned({b, t, c}), dw_alone = bench.normal("dw", {v, c}, DType::f32, 1e-4);
  for (const bool of_x : {false, true})
    run(bench, cross_entropy_head, [&](Tensor Twin::*on) {
      CrossEntropyHead alone = head(on);
      alone.dx = of_x ? dx_alone.*on : Tensor{};
      alone.dweight = of_x ? Tensor{} : dw_alone.*on;
      return alone;
    });
  CHECK(bench.error(dx_alone) < 2 * tolerance(bench.dtype()));
  CHECK(bench.error(dw_alone) < 2 * tolerance(bench.dtype()));
}

TEST_CASE("accepted drafts are counted as on the CPU") {
  TwinBench bench(DType::f32);
  const auto [b, t] = GENERATE(table<std::int64_t, std::int64_t>({{1, 1}, {2, 5}, {3, 257}, {4, 2048}}));
  CAPTURE(b, t);
  constexpr std::int64_t depths = 3;
  const CounterRng rng(5, "drafts");
  std::uint64_t drawn = 0;
  const auto integers = [&](std::int64_t width, const auto& value) {
    std::vector<std::int32_t> values;
    for (std::int64_t n = 0; n < b * width; ++n) values.push_back(value(n % width));
    return bench.integers({b, width}, values);
  };
  const auto token = [&](std::int64_t) { return static_cast<std::int32_t>(rng.u64(drawn++) % 2); };
  const Twin main = integers(t, token);
  const Twin start = integers(
      t + 1 + depths, [&](std::int64_t i) { return static_cast<std::int32_t>(i < t / 3 ? -1 : i / 7 * 7); });
  const Twin agrees = bench.integers({b, t}, std::vector<std::int32_t>(static_cast<std::size_t>(b * t), -7));
  const Twin drafts = bench.zeros({depths}, DType::f64), accepted = bench.zeros({depths}, DType::f64);
  for (std::int64_t k = 1; k <= depths; ++k) {
    const Twin draft = integers(t, token);
    run(bench, count_acceptances, [&](auto on) {
      return CountAcceptances{.main = main.*on,
                              .draft = draft.*on,
                              .document_start = start.*on,
                              .depth = k,
                              .agrees = agrees.*on,
                              .drafts = (drafts.*on).flat(k - 1, 1),
                              .accepted = (accepted.*on).flat(k - 1, 1)};
    });
  }
  for (const Twin& counts : {drafts, accepted})
    CHECK(mismatch(bench.download(counts), counts.cpu, 0, 0) == "");
  CHECK((t < 5 || drafts.cpu.as<double>()[2] > 0));
}

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
  CAPTURE(n, skipped);  // an odd length or start: no packs
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

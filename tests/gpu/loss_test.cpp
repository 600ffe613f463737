// The output head's loss and the count of accepted drafts, compared with the CPU.

#include <vector>

#include "runtime/operators/vocabulary/acceptance.h"
#include "runtime/operators/vocabulary/cross_entropy_head.h"
#include "runtime/random.h"
#include "tests/gpu/twin.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

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
  // Logits that bf16 rounds to the same value give several maxima.
  const Tensor found = bench.download(argmax);
  std::int64_t different = 0;
  for (std::int64_t i = 0; i < b * t; ++i)
    different += found.as<std::int32_t>()[i] != argmax.cpu.as<std::int32_t>()[i];
  CHECK(different <= (bench.dtype() == DType::bf16 ? (b * t + 5) / 6 : 0));

  // Computes each gradient without the other.
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

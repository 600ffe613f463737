// Compares attention over cached keys and values with attention over whole sequences.

#include "runtime/operators/attention/cached_attention.h"

#include <cstring>
#include <vector>

#include "runtime/operators/dispatch.h"
#include "runtime/operators/rowwise/rope.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/numeric.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

struct Step {
  std::int64_t sequence, begin, end;  // new positions [begin, end)
};

/// Sequences of up to 11 positions, and a cache of 13 slots each. Attention runs over whole sequences, and in
/// steps over the cache.
struct Bench {
  AttentionHeads heads{.query = 6, .key_value = 2, .dim = 4};
  std::int64_t sequences = 3, length = 11, sequence_slots = 13, width = (6 + 2 * 2) * 4;
  DType dtype;
  Arena arena{DeviceKind::cpu};
  TestStream stream{3};
  Tensor qkv = arena.tensor(dtype, {sequences, length, width});
  Tensor expected = arena.tensor(dtype, {sequences, length, 6 * 4});
  Tensor cache = arena.tensor(dtype, {sequences, sequence_slots, 2 * 2 * 4});

  explicit Bench(DType type) : dtype(type) {
    fill_normal(qkv, "qkv");
    attention_forward(stream, {.heads = heads,
                               .qkv = qkv,
                               .out = expected,
                               .lse = arena.tensor(statistics_dtype(dtype), {sequences, 6, length})});
    poison(cache);
  }

  /// Computes the rows of several steps in one call. Returns how they differ from the same rows of the whole
  /// sequences, or an empty text.
  std::string run(const std::vector<Step>& steps, double tolerance) {
    std::vector<std::int32_t> slots;
    std::vector<Tensor> rows, wanted;
    for (const Step& step : steps)
      for (std::int64_t t = step.begin; t < step.end; ++t) {
        slots.push_back(static_cast<std::int32_t>(step.sequence * sequence_slots + t));
        rows.push_back(qkv.flat((step.sequence * length + t) * width, width));
        wanted.push_back(expected.flat((step.sequence * length + t) * 24, 24));
      }
    const auto n = static_cast<std::int64_t>(slots.size());
    const Tensor packed = arena.tensor(dtype, {n, width}), out = arena.tensor(dtype, {n, 24}),
                 whole = arena.tensor(dtype, {n, 24});
    for (std::int64_t i = 0; i < n; ++i) {
      std::memcpy(packed.rows(i, 1).data, rows[static_cast<std::size_t>(i)].data, rows[0].bytes());
      std::memcpy(whole.rows(i, 1).data, wanted[static_cast<std::size_t>(i)].data, wanted[0].bytes());
    }
    poison(out);
    const Tensor at = tensor_over(std::span(slots), {n});
    cache_store(stream, {.x = {packed, 24}, .slots = at, .cache = cache});
    cached_attention(stream, {.heads = heads, .qkv = packed, .slots = at, .cache = cache, .out = out});
    return mismatch(out, whole, tolerance, tolerance);
  }
};

}  // namespace

TEST_CASE("cached attention equals attention over whole sequences, in steps of any sizes") {
  const DType dtype = GENERATE(DType::f64, DType::f32);
  const double tolerance = dtype == DType::f64 ? 1e-12 : 2e-6;
  Bench bench(dtype);
  CHECK(bench.run({{0, 0, 5}, {2, 0, 1}}, tolerance) == "");
  CHECK(bench.run({{2, 1, 4}, {0, 5, 6}, {1, 0, 7}}, tolerance) == "");
  CHECK(bench.run({{1, 7, 11}}, tolerance) == "");
  CHECK(bench.run({{0, 6, 11}, {2, 4, 11}}, tolerance) == "");
}

TEST_CASE("what a cache held past a position does not matter once rows go on from there") {
  Bench bench(DType::f64);
  CHECK(bench.run({{0, 0, 11}}, 1e-12) == "");
  const Tensor rejected = bench.cache.flat(4 * 16, 7 * 16);
  poison(rejected);
  CHECK(bench.run({{0, 4, 6}}, 1e-12) == "");
  CHECK(bench.run({{0, 6, 11}}, 1e-12) == "");
}

TEST_CASE("a branch whose keys are elsewhere gets the bits that it gets as the text") {
  Bench bench(GENERATE(DType::f64, DType::f32));
  CHECK(bench.run({{0, 0, 11}, {1, 0, 11}}, 1e-5) == "");
  // Moves the last three positions of sequence 1 to other slots, and writes keys of other positions to their
  // slots.
  std::vector<std::int32_t> from{13 + 9, 13 + 8, 13 + 10, 0, 1},
      to{13 + 11, 13 + 10, 13 + 12, 13 + 8, 13 + 9};
  std::swap(from[1], from[2]);
  std::swap(to[1], to[2]);
  const auto move = [&] {
    cache_move(bench.stream, {.from = tensor_over(std::span(from), {5}),
                              .to = tensor_over(std::span(to), {5}),
                              .cache = bench.cache});
  };
  const auto attend = [&](std::vector<std::int32_t> slots, std::vector<std::int32_t> positions,
                          std::vector<std::int32_t> paths) {
    const auto n = static_cast<std::int64_t>(slots.size());
    const Tensor packed = bench.arena.tensor(bench.dtype, {n, bench.width}),
                 out = bench.arena.tensor(bench.dtype, {n, 24});
    for (std::int64_t i = 0; i < n; ++i)
      std::memcpy(
          packed.rows(i, 1).data,
          bench.qkv.flat((11 + positions[static_cast<std::size_t>(i)]) * bench.width, bench.width).data,
          packed.rows(i, 1).bytes());
    poison(out);
    cached_attention(
        bench.stream,
        {.heads = bench.heads,
         .qkv = packed,
         .slots = tensor_over(std::span(slots), {n}),
         .positions = tensor_over(std::span(positions), {n}),
         .paths = paths.empty() ? Tensor{} : tensor_over(std::span(paths), {n, std::ssize(paths) / n}),
         .cache = bench.cache,
         .out = out});
    return out;
  };
  const Tensor as_text = attend({13 + 8, 13 + 9, 13 + 10, 13 + 2}, {8, 9, 10, 2}, {});
  move();
  // Position 8 is in slot 10, position 9 in slot 11, position 10 in slot 12.
  const Tensor as_branch =
      attend({13 + 10, 13 + 11, 13 + 12, 13 + 2}, {8, 9, 10, 2}, {10, 7, 6, 11, 10, 7, 12, 11, 10, 2, 1, 0});
  CHECK(mismatch(as_branch, as_text, 0, 0) == "");
}

TEST_CASE("cached attention refuses tensors that do not fit") {
  Bench bench(DType::f32);
  const Tensor slots = bench.arena.tensor(DType::i32, {2}), qkv = bench.arena.tensor(DType::f32, {2, 40});
  expect_error<DefectError>("cached_attention: qkv f32 [2, 40], cache f32 [3, 13, 16], out [2, 20]", [&] {
    cached_attention(bench.stream, {.heads = bench.heads,
                                    .qkv = qkv,
                                    .slots = slots,
                                    .cache = bench.cache,
                                    .out = bench.arena.tensor(DType::f32, {2, 20})});
  });
  expect_error<DefectError>("cache_store: columns [25, 41)", [&] {
    cache_store(bench.stream, {.x = {qkv, 25}, .slots = slots, .cache = bench.cache});
  });
}

TEST_CASE("rope at given positions turns each token as in a row that holds it there") {
  Arena arena(DeviceKind::cpu);
  TestStream stream;
  const Tensor cos = arena.tensor(DType::f64, {9, 2}), sin = arena.tensor(DType::f64, {9, 2});
  rope_table(cos, sin, 100);
  const Tensor row = arena.tensor(DType::f64, {1, 9, 12}), picked = arena.tensor(DType::f64, {1, 3, 12}),
               expected = arena.tensor(DType::f64, {1, 3, 12});
  fill_normal(row, "row");
  const std::vector<std::int64_t> picks{7, 0, 3};
  const auto pick = [&](const Tensor& to) {
    for (std::int64_t i = 0; i < 3; ++i)
      std::memcpy(to.flat(i * 12, 12).data, row.flat(picks[static_cast<std::size_t>(i)] * 12, 12).data,
                  12 * sizeof(double));
  };
  pick(picked);
  rope(stream, {.qkv = row, .cos = cos, .sin = sin, .heads = 2});
  pick(expected);
  std::vector<std::int32_t> positions{7, 0, 3};
  rope(stream, {.qkv = picked,
                .cos = cos,
                .sin = sin,
                .heads = 2,
                .positions = tensor_over(std::span(positions), {1, 3})});
  CHECK(mismatch(picked, expected, 0, 0) == "");
}

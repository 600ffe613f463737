// Compares logits that a decoder computes with its caches with logits that the model computes for whole
// sequences.

#include "model/decoder/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/layout.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/models/tiny_model.h"
#include "tests/support/numeric.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

constexpr std::int64_t rows = 3, length = 17;

/// A model's logits for whole rows, and a decoder with the same weights.
struct Pair {
  ModelConfig model = tiny_model();
  MtpConfig mtp;
  TestStream stream{2};
  TinyBatch batch;
  Arena arena{DeviceKind::cpu};
  std::vector<Tensor> expected;  // by level: [rows, length, V]
  Decoder decoder;

  Pair(const MtpConfig& heads, bool tied, std::int64_t rows_together)
      : mtp(heads),
        batch({.rows = rows, .length = length}, heads.depths, model.vocab_size, 5, false),
        decoder(stream, options(tied, rows_together)) {
    RankModel whole(stream, serial_options(model, mtp, {.rows = rows, .length = length}, DType::f32, 1));
    whole.parameters().initialize(stream, 7);
    decoder.parameters().initialize(stream, 7);
    const std::vector<MicrobatchInput> input{batch.input()};
    whole.begin_step({.request = StepRequest::evaluation(), .microbatches = input});
    whole.forward({});
    for (int level = 0; level < decoder.levels(); ++level) {
      expected.push_back(arena.tensor(DType::f32, {rows * length, model.vocab_size}));
      whole.logits({.depth = level, .out = expected.back()});
    }
  }
  DecoderOptions options(bool tied, std::int64_t rows_together) {
    model.tie_word_embeddings = tied;
    return {.model = model,
            .mtp = mtp,
            .sequences = rows,
            .positions = length,
            .branches = 8,
            .rows = rows_together,
            .logits = rows * length};
  }
  std::int32_t token(std::int64_t row, std::int64_t position) const {
    const Tensor tokens = batch.input().tokens;
    return tokens.as<std::int32_t>()[row * tokens.shape[1] + position];
  }
  struct Piece {
    std::int32_t row;
    std::int32_t begin, end;
  };
  /// Computes the pieces in one call of the decoder. Returns the first difference of their logits from
  /// `expected`, or "".
  std::string run(int level, const std::vector<Piece>& pieces) {
    std::vector<DecoderRow> new_rows;
    std::vector<CacheSlot> slots;
    for (const auto& [row, begin, end] : pieces)
      for (std::int32_t t = begin; t < end; ++t) {
        new_rows.push_back({row, t, token(row, t + (decoder.is_chained() ? level : 0))});
        slots.push_back({row, t});
      }
    decoder.forward(level, new_rows);
    const std::span<const float> logits = decoder.logits(level, slots);
    const std::int64_t v = model.vocab_size;
    std::vector<float> actual(logits.begin(), logits.end()), wanted;
    for (const CacheSlot& slot : slots) {
      const Tensor row =
          expected[static_cast<std::size_t>(level)].rows(slot.sequence * length + slot.slot, 1);
      wanted.insert(wanted.end(), row.as<float>(), row.as<float>() + v);
    }
    const Shape shape{static_cast<std::int64_t>(slots.size()), v};
    return mismatch(tensor_over(std::span(actual), shape), tensor_over(std::span(wanted), shape), 1e-5, 1e-5);
  }
};

MtpConfig sequential(MtpConfig::Concat concat, MtpConfig::Hidden trunk, MtpConfig::Hidden recycled) {
  return {.depths = 3, .concat = concat, .trunk_hidden = trunk, .recycled_hidden = recycled};
}

}  // namespace

TEST_CASE(
    "cached logits equal the logits of whole sequences, for chunks of any size and several sequences in one "
    "call") {
  const bool tied = GENERATE(false, true);
  const std::int64_t together = GENERATE(1, 5, 512);
  Pair pair({}, tied, together);
  CHECK(pair.run(0, {{0, 0, 7}, {1, 0, 3}}) == "");
  CHECK(pair.run(0, {{1, 3, 4}, {2, 0, 11}}) == "");
  CHECK(pair.run(0, {{2, 11, 17}, {0, 7, 8}, {1, 4, 9}}) == "");
  CHECK(pair.run(0, {{0, 8, 17}, {1, 9, 17}}) == "");
}

TEST_CASE("rows of rejected tokens do not change later logits") {
  Pair pair({}, false, 512);
  CHECK(pair.run(0, {{0, 0, 6}, {1, 0, 9}}) == "");
  std::vector<DecoderRow> rejected;
  for (std::int32_t t = 6; t < 12; ++t) rejected.push_back({0, t, (pair.token(0, t) + 1) % 11});
  pair.decoder.forward(0, rejected);
  CHECK(pair.run(0, {{0, 6, 8}, {1, 9, 10}}) == "");
  CHECK(pair.run(0, {{0, 8, 17}, {1, 10, 17}}) == "");
}

TEST_CASE("every kind of heads computes the same logits with caches as from whole sequences") {
  using enum MtpConfig::Concat;
  using enum MtpConfig::Hidden;
  std::vector<NamedHeads> kinds = every_kind_of_heads(3);
  kinds.push_back({"hidden first", sequential(hidden_first, normed, normed)});
  kinds.push_back({"raw trunk", sequential(embedding_first, raw, normed)});
  kinds.push_back({"raw recycled", sequential(embedding_first, normed, raw)});
  const NamedHeads heads = GENERATE_REF(from_range(kinds));
  CAPTURE(heads.name);
  Pair pair(heads.mtp, false, 512);
  for (int level = 0; level <= 3; ++level) {
    CHECK(pair.run(level, {{0, 0, 5}, {1, 0, 2}}) == "");
    CHECK(pair.run(level, {{1, 2, 8}, {0, 5, 6}}) == "");
  }
  for (int level = 0; level <= 3; ++level) CHECK(pair.run(level, {{0, 6, 17}, {1, 8, 17}, {2, 0, 17}}) == "");
}

TEST_CASE("a decoder chooses the tokens with the largest logits among the ids of the given vocabulary") {
  Pair pair({.depths = 1}, false, 512);
  for (const int level : {0, 1}) {
    CHECK(pair.run(level, {{0, 0, 9}, {1, 0, 4}}) == "");
    const std::vector<CacheSlot> slots{{0, 3}, {0, 8}, {1, 0}, {1, 3}};
    const std::span<const float> logits = pair.decoder.logits(level, slots);
    for (const std::int64_t vocabulary : {0, 7, 1}) {
      CHECK(pair.decoder.choose(level, slots, vocabulary) == 0);
      const std::span<const std::int32_t> tokens = pair.decoder.tokens();
      REQUIRE(tokens.size() == slots.size());
      for (std::size_t i = 0; i < slots.size(); ++i) {
        const auto row = logits.begin() + static_cast<std::ptrdiff_t>(i) * 11;
        CHECK(tokens[i] == std::max_element(row, row + (vocabulary == 0 ? 11 : vocabulary)) - row);
      }
    }
  }
}

TEST_CASE("choosing from logits that are not numbers is an error") {
  Pair pair({}, false, 512);
  CHECK(pair.run(0, {{0, 0, 3}}) == "");
  const CacheSlot slot{0, 2};
  fill(pair.stream, pair.decoder.parameters().weight("lm_head.weight"), std::nan(""));
  expect_error<NumericalError>("logits of level 0 after slot 2 of sequence 0 are not finite", [&] {
    pair.decoder.choose(0, std::span(&slot, 1));
    pair.decoder.tokens();
  });
}

TEST_CASE(
    "rows of a tree's branch have the logits that they would have as text, and can be moved to become text") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  const std::int64_t together = GENERATE(2, 512);
  CAPTURE(heads.name, together);
  Pair pair(heads.mtp, false, together);
  const std::int32_t known = 6;
  for (int level = 0; level <= 3; ++level) CHECK(pair.run(level, {{0, 0, known}, {1, 0, 4}}) == "");
  // A tree of seven nodes. Nodes 1, 3 and 6 form a branch with the row's tokens; the others have other
  // tokens.
  const std::vector<std::int32_t> parents{-1, -1, 1, 1, 3, 3, 3}, right{1, 3, 6};
  std::vector<std::vector<std::int32_t>> branches;
  std::vector<DecoderRow> tree;
  for (std::int32_t node = 0; node < 7; ++node) {
    const std::int32_t parent = parents[static_cast<std::size_t>(node)];
    branches.push_back({known + node});
    if (parent >= 0)
      branches.back().insert(branches.back().end(), branches[static_cast<std::size_t>(parent)].begin(),
                             branches[static_cast<std::size_t>(parent)].end());
  }
  for (std::int32_t node = 0; node < 7; ++node) {
    const std::vector<std::int32_t>& branch = branches[static_cast<std::size_t>(node)];
    const std::int32_t position = known + static_cast<std::int32_t>(branch.size()) - 1;
    const bool is_right = std::find(right.begin(), right.end(), node) != right.end();
    tree.push_back({.position = position,
                    .token = (pair.token(0, position) + (is_right ? 0 : 1 + node % 3)) % 11,
                    .branch = branch});
  }
  const auto check = [&](int level) {
    std::vector<CacheSlot> slots;
    for (const std::int32_t node : right) slots.push_back({0, known + node});
    const std::span<const float> logits = pair.decoder.logits(level, slots);
    std::vector<float> actual(logits.begin(), logits.end());
    CHECK(mismatch(tensor_over(std::span(actual), {3, 11}),
                   pair.expected[static_cast<std::size_t>(level)].rows(known, 3), 1e-5, 1e-5) == "");
  };
  pair.decoder.forward(0, tree);
  check(0);
  if (pair.decoder.is_chained()) {
    // A module computes rows for the same nodes; each row reads the previous level's state of its node.
    for (int level = 1; level <= 3; ++level) {
      std::vector<DecoderRow> rows = tree;
      for (DecoderRow& row : rows) {
        const bool is_right = row.token == pair.token(0, row.position);
        row.input_slot = row.branch.front();
        row.token = (pair.token(0, row.position + level) + (is_right ? 0 : 1)) % 11;
      }
      pair.decoder.forward(level, rows);
      check(level);
    }
  }
  pair.decoder.move_slots(
      std::vector<SlotMove>{{0, known + 1, known}, {0, known + 3, known + 1}, {0, known + 6, known + 2}});
  CHECK(pair.run(0, {{0, known + 3, known + 5}, {1, 4, 6}}) == "");
  for (int level = 1; level <= 3; ++level) CHECK(pair.run(level, {{0, known, known + 5}}) == "");
}

namespace {

/// A model whose sizes are not multiples of a SIMD vector's width.
ModelConfig odd_model() {
  ModelConfig model = tiny_model();
  model.hidden_size = 40;
  model.head_dim = 10;
  model.intermediate_size = 72;
  model.vocab_size = 53;
  return model;
}

}  // namespace

TEST_CASE("on the CPU logits have the same bits for rows alone, together, and on a branch") {
  TestStream stream{2};
  const ModelConfig model = odd_model();
  Decoder decoder(stream, {.model = model, .sequences = 2, .positions = 40, .branches = 9, .logits = 24});
  decoder.parameters().initialize(stream, 3);
  const auto token = [](std::int32_t t) { return t * t * 7 % 53; };
  const auto run = [&](const std::vector<DecoderRow>& rows) {
    std::vector<CacheSlot> slots;
    for (const DecoderRow& row : rows)
      slots.push_back({row.sequence, row.branch.empty() ? row.position : row.branch.front()});
    decoder.forward(0, rows);
    const std::span<const float> logits = decoder.logits(0, slots);
    return std::vector<float>(logits.begin(), logits.end());
  };
  std::vector<float> alone;
  for (std::int32_t t = 0; t < 24; ++t) {
    const std::vector<float> one = run({{0, t, token(t)}});
    alone.insert(alone.end(), one.begin(), one.end());
  }
  for (const std::int32_t together : {2, 3, 5, 24}) {
    CAPTURE(together);
    std::vector<float> found;
    for (std::int32_t t = 0; t < 24; t += together) {
      std::vector<DecoderRow> rows;
      for (std::int32_t i = t; i < std::min(t + together, 24); ++i) rows.push_back({1, i, token(i)});
      const std::vector<float> some = run(rows);
      found.insert(found.end(), some.begin(), some.end());
    }
    CHECK(found == alone);
  }
  // Positions 20 to 23 again as a branch in slots 30 to 33, while the slots of these positions hold drafts of
  // other tokens.
  std::vector<std::vector<std::int32_t>> branches;
  std::vector<DecoderRow> rows;
  for (std::int32_t t = 20; t < 24; ++t) {
    branches.emplace_back();
    for (std::int32_t back = t; back >= 20; --back) branches.back().push_back(back + 10);
  }
  for (std::int32_t t = 20; t < 24; ++t) rows.push_back({1, t, (token(t) + 1) % 53});
  for (std::int32_t t = 20; t < 24; ++t)
    rows.push_back({1, t, token(t), branches[static_cast<std::size_t>(t) - 20]});
  const std::vector<float> both = run(rows);
  CHECK(std::vector<float>(both.begin() + 4 * 53, both.end()) ==
        std::vector<float>(alone.begin() + 20 * 53, alone.end()));
}

TEST_CASE("logits have the same bits in a call of more rows than one product of few rows computes") {
  TestStream stream{2};
  const ModelConfig model = odd_model();
  constexpr std::int32_t texts = 40, width = 8;  // 320 rows
  Decoder decoder(stream, {.model = model, .sequences = texts, .positions = width, .logits = texts * width});
  decoder.parameters().initialize(stream, 3);
  const auto run = [&](std::int32_t first, std::int32_t count) {
    std::vector<DecoderRow> rows;
    std::vector<CacheSlot> slots;
    for (std::int32_t s = first; s < first + count; ++s)
      for (std::int32_t t = 0; t < width; ++t) {
        rows.push_back({s, t, (s * 5 + t * t * 7) % 53});
        slots.push_back({s, t});
      }
    decoder.forward(0, rows);
    const std::span<const float> logits = decoder.logits(0, slots);
    return std::vector<float>(logits.begin(), logits.end());
  };
  std::vector<float> alone;
  for (std::int32_t s = 0; s < texts; ++s) {
    const std::vector<float> one = run(s, 1);
    alone.insert(alone.end(), one.begin(), one.end());
  }
  CHECK((run(0, texts) == alone));
}

TEST_CASE("a decoder refuses rows that it has no slot for") {
  Pair pair({.depths = 1}, false, 512);
  const auto forward = [&](int level, DecoderRow row) { pair.decoder.forward(level, std::span(&row, 1)); };
  expect_error<DefectError>(
      "a row at level 0, sequence 3, slot 0 is outside 2 levels, 3 sequences and 17 slots", [&] {
        forward(0, {3, 0, 1});
      });
  expect_error<DefectError>("sequence 0, slot 17", [&] { forward(1, {0, 17, 1}); });
  expect_error<DefectError>("level 2", [&] { forward(2, {0, 0, 1}); });
  const std::vector<std::int32_t> branch(9), beyond{25};
  expect_error<DefectError>("a branch of 9 rows, planned for 8", [&] { forward(0, {0, 3, 1, branch}); });
  expect_error<DefectError>(
      "a branch at level 0, sequence 0, slot 25 is outside 2 levels, 3 sequences and 25 slots", [&] {
        forward(0, {0, 3, 1, beyond});
      });
  expect_error<DefectError>(
      "a move at level 0, sequence 0, slot 17 is outside 2 levels, 3 sequences and 17 slots", [&] {
        pair.decoder.move_slots(std::vector<SlotMove>{{0, 20, 17}});
      });
  expect_error<UsageError>("token 11 of sequence 1 is outside the model's vocabulary of 11", [&] {
    forward(0, {1, 0, 11});
  });
}

// Compares the heads' drafts with those of the whole model's heads, for every path of the tree.

#include "model/generation/drafter.h"

#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/models/generation_lab.h"
#include "tests/support/models/whole_model.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// A decoder of the tiny model whose trunk has computed a text except its last token.
struct Bench {
  TestStream stream;
  Decoder decoder;
  GeneratedText text;
  TokenChoosers choosers{{.temperature = 0}, 11, 2};

  Bench(const MtpConfig& mtp, std::vector<std::int32_t> tokens)
      : decoder(stream, {.model = tiny_model(),
                         .mtp = mtp,
                         .sequences = 2,
                         .positions = 32,
                         .branches = 60,
                         .rows = 9,
                         .logits = 60}),
        text{.sequence = 1, .tokens = std::move(tokens), .limit = 32, .rng = {1, 1}, .drafts = {}} {
    decoder.parameters().initialize(stream, 11);
    std::vector<DecoderRow> rows;
    for (std::int32_t i = 0; i + 1 < text.size(); ++i)
      rows.push_back({1, i, text.tokens[static_cast<std::size_t>(i)]});
    decoder.forward(0, rows);
  }
  const DraftTree& draft(Drafter& drafter, const TreeShape& shape) {
    text.drafts.clear();
    GeneratedText* texts[] = {&text};
    drafter.draft(texts, shape, choosers);
    text.drafts.resolve(decoder.tokens());
    return text.drafts;
  }
  std::vector<std::int32_t> children(std::int32_t draft) const {
    std::vector<std::int32_t> tokens;
    const DraftTree::Range range = text.drafts.children(draft);
    for (std::int32_t child = range.begin; child < range.end; ++child)
      tokens.push_back(text.drafts[child].token);
    return tokens;
  }
};

}  // namespace

TEST_CASE("every kind of heads drafts after each draft what it would if that draft were text") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  // One text is longer and one is shorter than the number of tokens that the chain of modules looks ahead.
  const std::vector<std::int32_t> tokens =
      GENERATE(std::vector<std::int32_t>{3, 1, 4, 1, 5, 9}, std::vector<std::int32_t>{2, 7});
  CAPTURE(heads.name, tokens);
  Bench bench(heads.mtp, tokens);
  HeadDrafter drafter(bench.decoder);
  const TreeShape shape{3, 2, 2};
  for (int again = 0; again < 2; ++again) {
    const DraftTree& drafts = bench.draft(drafter, shape);
    REQUIRE(drafts.size() == 21);
    for (std::int32_t draft = -1; draft < drafts.at_depth(3).begin; ++draft) {
      const int depth = draft < 0 ? 0 : drafts[draft].depth;
      std::vector<std::int32_t> way, text = bench.text.tokens;
      for (std::int32_t at = draft; at >= 0; at = drafts[at].parent) way.push_back(drafts[at].token);
      text.insert(text.end(), way.rbegin(), way.rend());
      // The draft of depth k is the prediction of level k at the last position that the trunk has computed.
      const std::vector<float> logits = whole_logits(text, heads.mtp, depth + 1, 2 + depth);
      std::vector<std::int32_t> expected;
      likeliest_of(logits, static_cast<std::size_t>(shape[static_cast<std::size_t>(depth)]), expected);
      CHECK(bench.children(draft) == expected);
    }
  }
}

TEST_CASE("beyond the last module a branch's drafts do not depend on other branches") {
  const bool repeat = GENERATE(false, true);
  const std::vector<std::int32_t> tokens{3, 1, 4, 1, 5, 9};
  Bench bench({.depths = 2, .repeat = repeat}, tokens);
  HeadDrafter drafter(bench.decoder);
  const TreeShape shape{2, 2, 2, 2, 1};
  const DraftTree& drafts = bench.draft(drafter, shape);
  REQUIRE(drafts.size() == 46);
  const std::int32_t n = bench.text.size();
  for (std::int32_t draft = drafts.at_depth(2).begin; draft < drafts.at_depth(5).begin; ++draft) {
    std::vector<std::int32_t> way;
    for (std::int32_t at = draft; at >= 0; at = drafts[at].parent) way.insert(way.begin(), drafts[at].token);
    // The reference computes the drafts as text: module 2 reads the known text and the first draft, then its
    // own output.
    Bench alone({.depths = 2, .repeat = repeat}, tokens);
    const auto at = [&](std::int32_t i) {
      return i < n ? tokens[static_cast<std::size_t>(i)] : way[static_cast<std::size_t>(i - n)];
    };
    for (std::int32_t level = 1; level <= 2; ++level)
      for (std::int32_t i = 0; i < n - 1; ++i)
        alone.decoder.forward(level, std::vector<DecoderRow>{{1, i, at(i + level)}});
    const auto depth = static_cast<std::int32_t>(way.size());
    for (std::int32_t i = n - 1; i < n - 2 + depth; ++i)
      alone.decoder.forward(2, std::vector<DecoderRow>{{1, i, at(i + 2)}}, Decoder::Input::own_output);
    std::vector<std::int32_t> expected;
    likeliest_of(alone.decoder.logits(2, std::vector<CacheSlot>{{1, n - 3 + depth}}),
                 static_cast<std::size_t>(shape[way.size()]), expected);
    CHECK(bench.children(draft) == expected);
  }
}

TEST_CASE("another model drafts its own continuation") {
  const std::vector<std::int32_t> tokens{3, 1, 4, 1, 5, 9};
  Bench bench({}, tokens);
  ModelDrafter drafter(bench.decoder, 11);
  const DraftTree& drafts = bench.draft(drafter, {2, 3, 1});
  REQUIRE(drafts.size() == 14);
  for (std::int32_t draft = -1; draft < drafts.at_depth(3).begin; ++draft) {
    std::vector<std::int32_t> way, text = tokens, expected;
    for (std::int32_t at = draft; at >= 0; at = drafts[at].parent) way.push_back(drafts[at].token);
    text.insert(text.end(), way.rbegin(), way.rend());
    likeliest_of(whole_logits(text), draft < 0 ? 2 : drafts[draft].depth == 1 ? 3 : 1, expected);
    CHECK(bench.children(draft) == expected);
  }
}

TEST_CASE("the drafts of a greedy chain or tree are verified before the host reads them") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  CAPTURE(heads.name);
  const std::vector<std::int32_t> tokens{3, 1, 4, 1, 5, 9};
  Bench bench(heads.mtp, tokens);
  HeadDrafter drafter(bench.decoder);
  GeneratedText* texts[] = {&bench.text};
  drafter.draft(texts, {1, 1, 1}, bench.choosers);
  std::vector<DecoderRow> rows{{1, 5, tokens.back()}};
  std::vector<CacheSlot> slots{{1, 5}};
  for (std::int32_t draft = 0; draft < 3; ++draft) {
    CHECK(bench.text.drafts[draft].token == Decoder::chosen(draft));
    rows.push_back({1, 6 + draft, bench.text.drafts[draft].token});
    slots.push_back({1, 6 + draft});
  }
  bench.decoder.forward(0, rows);
  CHECK(bench.decoder.choose(0, slots) == 3);
  const std::span<const std::int32_t> chosen = bench.decoder.tokens();
  std::vector<std::int32_t> text = tokens;
  for (std::size_t i = 0; i < 4; ++i) {
    if (i > 0) text.push_back(chosen[i - 1]);
    CHECK(chosen[3 + i] == likeliest(whole_logits(text)));
  }
  expect_error<UsageError>("token -1 of sequence 1 is outside", [&] { bench.decoder.forward(0, rows); });
  bench.text.drafts.clear();
  drafter.draft(texts, {3, 2}, bench.choosers);
  for (std::int32_t draft = 0; draft < 9; ++draft) CHECK(bench.text.drafts[draft].token < 0);
}

TEST_CASE("a text without room gets no drafts, and a head drafter of a model without heads is a defect") {
  Bench bench({.depths = 2}, {3, 1, 4});
  HeadDrafter drafter(bench.decoder);
  bench.text.limit = 4;
  CHECK(bench.draft(drafter, {1, 1}).empty());
  bench.text.limit = 5;
  CHECK(bench.draft(drafter, {2, 2}).depth() == 1);
  TestStream stream;
  Decoder plain(stream, {.model = tiny_model(), .positions = 8});
  expect_error<DefectError>("drafts: the model has no prediction heads", [&] { HeadDrafter{plain}; });
}

// Compares generation without drafts with the whole model run again for every token, and speculative
// generation with generation without drafts.

#include "model/generation/generator.h"

#include <algorithm>
#include <cmath>

#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/models/generation_lab.h"
#include "tests/support/models/tiny_model.h"
#include "tests/support/models/whole_model.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

const Texts prompts{{3, 1, 4, 1, 5, 9, 2, 6}, {5}, {3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2}, {6, 4}};

GenerationOptions greedy(const TreeShape& drafts = {}) {
  return {.sampling = {.temperature = 0}, .max_tokens = 40, .vocabulary = 11, .drafts = drafts};
}

/// The likeliest next token after a text, from the whole model.
std::int32_t next_token(const std::vector<std::int32_t>& text) {
  return likeliest(whole_logits(text));
}

/// A drafter that drafts the known continuation of each text or, if `wrong`, other tokens.
class KnownContinuationDrafter : public Drafter {
 public:
  KnownContinuationDrafter(Texts texts, bool wrong) : texts_(std::move(texts)), wrong_(wrong) {}
  int longest() const override { return 8; }

 private:
  void draft_depth(std::span<GeneratedText* const> texts, int depth, int children,
                   TokenChoosers& /*choosers*/) override {
    for (GeneratedText* text : texts) {
      const auto& whole = texts_[static_cast<std::size_t>(text->sequence)];
      const std::int32_t next = whole[static_cast<std::size_t>(text->size() + depth - 1)];
      const DraftTree::Range last = text->drafts.at_depth(depth - 1);
      // The correct token is the last child of the last draft of a depth.
      for (std::int32_t draft = last.begin; draft < last.end; ++draft)
        for (int child = 0; child < children; ++child) {
          const bool right = !wrong_ && draft + 1 == last.end && child + 1 == children;
          text->drafts.add(draft, right ? next : (next + 1 + child) % 11);
        }
    }
  }
  void finish(std::span<GeneratedText* const> /*texts*/) override {}

  Texts texts_;
  bool wrong_;
};

}  // namespace

TEST_CASE("greedy text equals the text of the whole model, run without caches for every token") {
  GenerationOptions options = greedy();
  options.max_tokens = 12;
  const GenerationRun run = generate({.options = options, .prompts = prompts});
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::vector<std::int32_t> expected = prompts[i];
    for (int token = 0; token < 12; ++token) expected.push_back(next_token(expected));
    CHECK(run.texts[i] == expected);
  }
}

TEST_CASE("greedy text is the same with and without speculation, token by token, for every kind of heads") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  const TreeShape drafts = GENERATE(chain(1), chain(2), chain(3), chain(5), chain(8), TreeShape{3, 2, 1},
                                    TreeShape{1, 2, 2, 1, 2}, TreeShape{11}, TreeShape{2, 2, 2, 2, 2});
  const double std = GENERATE(0.3, 0.02);
  CAPTURE(heads.name, drafts, std);
  const GenerationRun plain = generate({.options = greedy(), .prompts = prompts, .std = std});
  for (std::size_t count = 1; count <= prompts.size(); ++count) {
    const Texts some(prompts.begin(), prompts.begin() + static_cast<std::ptrdiff_t>(count));
    const GenerationRun run =
        generate({.mtp = heads.mtp, .options = greedy(drafts), .prompts = some, .std = std});
    CHECK(run.texts == Texts(plain.texts.begin(), plain.texts.begin() + static_cast<std::ptrdiff_t>(count)));
    CHECK(run.statistics.drafted > 0);
    CHECK(run.statistics.accepted <= run.statistics.drafted);
  }
}

TEST_CASE("greedy text is the same with and without drafts of another model") {
  const TreeShape drafts = GENERATE(chain(1), chain(4), TreeShape{2, 3, 1});
  const bool same = GENERATE(false, true);
  CAPTURE(drafts, same);
  ModelConfig small = tiny_model();
  if (!same) small.num_hidden_layers = 1;
  const GenerationRun plain = generate({.options = greedy(), .prompts = prompts}),
                      run = generate({.options = greedy(drafts),
                                      .prompts = prompts,
                                      .draft_model = small,
                                      .draft_seed = same ? 11u : 12u});
  CHECK(run.texts == plain.texts);
  // If a model drafts for itself, all its drafts are accepted: its caches equal those of generation without
  // drafts.
  const SpeculationStatistics& s = run.statistics;
  if (same) CHECK(s.accepted_at == s.drafted_at);
  if (!same) CHECK(s.accepted < s.drafted);
}

TEST_CASE("texts generated in parallel equal those generated one after another") {
  const TreeShape drafts = GENERATE(TreeShape{}, chain(2), TreeShape{2, 2});
  CAPTURE(drafts);
  ModelConfig model = tiny_model();
  model.vocab_size = 33000;  // enough logits to use one thread per text
  const auto texts_on = [&](int threads) {
    TestStream stream{threads};
    Decoder decoder(stream, {.model = model,
                             .mtp = {.depths = 2},
                             .sequences = 4,
                             .positions = 64,
                             .branches = branches_of(drafts),
                             .logits = 4 * (1 + drafts_in(drafts))});
    decoder.parameters().initialize(stream, 11);
    HeadDrafter drafter(decoder);
    Generator generator(decoder,
                        {.sampling = {.temperature = 0.9, .top_p = 0.95},
                         .seed = 5,
                         .max_tokens = 30,
                         .vocabulary = model.vocab_size,
                         .drafts = drafts},
                        prompts, drafts.empty() ? nullptr : &drafter);
    while (generator.round([](std::size_t, std::span<const std::int32_t>) { return std::nullopt; })) {
    }
    Texts texts;
    for (std::size_t i = 0; i < prompts.size(); ++i)
      texts.emplace_back(generator.text(i).begin(), generator.text(i).end());
    return texts;
  };
  CHECK(texts_on(4) == texts_on(1));
}

TEST_CASE("correct drafts are all accepted, wrong ones never, on any branch") {
  const GenerationRun plain = generate({.options = greedy(), .prompts = prompts});
  const TreeShape drafts = GENERATE(chain(3), TreeShape{3, 2, 2}, TreeShape{1, 4, 1});
  CAPTURE(drafts);
  for (const bool wrong : {false, true}) {
    KnownContinuationDrafter known(plain.texts, wrong);
    // Parallel heads read the input of the trunk's last block, so the trunk's passes also cache it. The heads
    // do not run here: only the trunk's caches are compared, through the texts.
    const GenerationRun run = generate({.mtp = {.kind = MtpConfig::Kind::parallel, .depths = 1},
                                        .options = greedy(drafts),
                                        .prompts = prompts},
                                       known);
    CHECK(run.texts == plain.texts);
    CHECK(run.statistics.accepted_at == (wrong ? std::vector<std::int64_t>(3) : run.statistics.drafted_at));
    CHECK(run.rounds == (wrong ? 40 : 11));
  }
}

TEST_CASE("tree drafts do not change texts whose moves do not fit the indices of one pass") {
  constexpr std::size_t count = 4200;  // two moves per text, two indices per move: 16,800 indices
  GenerationOptions options = greedy();
  options.max_tokens = 6;
  Texts few, many;
  for (std::int32_t token = 0; token < 11; ++token) few.push_back({token});
  for (std::size_t i = 0; i < count; ++i) many.push_back(few[i % few.size()]);
  const GenerationRun plain = generate({.options = options, .prompts = few});
  Texts expected;
  for (std::size_t i = 0; i < count; ++i) expected.push_back(plain.texts[i % few.size()]);
  KnownContinuationDrafter known(expected, false);
  options.drafts = {2, 2};
  const GenerationRun run =
      generate({.options = options, .prompts = many, .positions = 8, .rows = 512}, known);
  CHECK(run.texts == expected);
  CHECK(run.statistics.accepted_at == run.statistics.drafted_at);
}

TEST_CASE("a tree accepts at least the drafts that its first branch alone would") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  CAPTURE(heads.name);
  // One round after the first: the texts are equal, so the drafts can be compared.
  GenerationOptions options = greedy(chain(5));
  options.max_tokens = 7;
  const GenerationCase alone{.mtp = heads.mtp, .options = options, .prompts = prompts};
  GenerationCase tree = alone;
  tree.options.drafts = {3, 2, 1, 2, 1};
  const SpeculationStatistics a = generate(alone).statistics, b = generate(tree).statistics;
  CHECK(b.rounds <= a.rounds);
  CHECK(b.accepted * a.rounds >= a.accepted * b.rounds);
}

TEST_CASE("speculation statistics add up, and accepted drafts reduce the number of rounds") {
  // Medusa's residual heads start as copies of the main head, so their drafts are correct where a text
  // repeats one token.
  MtpConfig mtp{
      .kind = MtpConfig::Kind::residual, .depths = 3, .residual_form = MtpConfig::ResidualForm::medusa};
  const GenerationRun run = generate({.mtp = mtp, .options = greedy(chain(3)), .prompts = {prompts[0]}});
  const SpeculationStatistics& s = run.statistics;
  CHECK(s.rounds + s.accepted + 1 + (run.rounds - 1 - s.rounds) == 40);
  CHECK(s.drafted_at[0] == s.rounds);
  CHECK(s.drafted_at[0] + s.drafted_at[1] + s.drafted_at[2] == s.drafted);
  CHECK(s.accepted_at[0] + s.accepted_at[1] + s.accepted_at[2] == s.accepted);
  CHECK(s.accepted_at[0] >= s.accepted_at[1]);
  CHECK(s.accepted_at[1] >= s.accepted_at[2]);
  CHECK(s.mean_acceptance_length() == 1 + double(s.accepted) / double(s.rounds));
  CHECK(s.acceptance_rate() == double(s.accepted) / double(s.drafted));
}

TEST_CASE("a text does not depend on the other texts of its batch, but depends on the seed") {
  GenerationCase of{.mtp = {.depths = 2},
                    .options = {.max_tokens = 30, .vocabulary = 11, .drafts = {3, 2}},
                    .prompts = prompts};
  const GenerationRun together = generate(of);
  of.prompts = {prompts[0]};
  const GenerationRun alone = generate(of);
  CHECK(alone.texts[0] == together.texts[0]);
  of.options.seed = 2;
  CHECK(generate(of).texts[0] != alone.texts[0]);
}

TEST_CASE("a text ends with the end token, at the limit, or where the model has no more positions") {
  const GenerationRun free = generate({.options = greedy(), .prompts = prompts});
  const TreeShape drafts = GENERATE(chain(4), TreeShape{2, 2, 1, 1});
  GenerationCase of{.mtp = {.depths = 2}, .options = greedy(drafts), .prompts = prompts};
  of.options.end = free.texts[0][12];
  const auto first_end = std::find(free.texts[0].begin() + 8, free.texts[0].end(), of.options.end);
  CHECK(generate(of).texts[0] == std::vector<std::int32_t>(free.texts[0].begin(), first_end + 1));
  of.options.end = -1;
  of.positions = 20;
  CHECK(generate(of).texts[0] ==
        std::vector<std::int32_t>(free.texts[0].begin(), free.texts[0].begin() + 20));
  CHECK(free.texts[1].size() == 41);
}

TEST_CASE("a text that its receiver ends inside a round has no token and no accepted draft beyond its end") {
  const GenerationRun free = generate({.options = greedy(), .prompts = {prompts[0]}});
  KnownContinuationDrafter known(free.texts, false);
  std::size_t received = 0;
  GenerationCase of{.mtp = {.kind = MtpConfig::Kind::linear, .depths = 1},
                    .options = greedy(chain(4)),
                    .prompts = {prompts[0]}};
  of.last_token = [&](std::size_t, std::span<const std::int32_t> tokens) -> std::optional<std::size_t> {
    if (received + tokens.size() < 9) {
      received += tokens.size();
      return std::nullopt;
    }
    return 9 - received;
  };
  const GenerationRun run = generate(of, known);  // rounds of 1, 5 and 3 tokens, the last one cut from 5
  CHECK(run.texts[0] == std::vector<std::int32_t>(
                            free.texts[0].begin(),
                            free.texts[0].begin() + static_cast<std::ptrdiff_t>(prompts[0].size()) + 9));
  CHECK(run.statistics.accepted == 4 + 3);
  CHECK(run.statistics.accepted_at == std::vector<std::int64_t>{2, 2, 2, 1});
}

TEST_CASE("each sequence counts its own drafts, and the counts of all sequences add up to the total") {
  Texts expected = generate({.options = greedy(), .prompts = prompts}).texts;
  for (std::size_t i = prompts[1].size(); i < expected[1].size(); ++i)
    expected[1][i] = (expected[1][i] + 1) % 11;
  KnownContinuationDrafter known(expected, false);
  const GenerationRun run = generate({.mtp = {.kind = MtpConfig::Kind::linear, .depths = 1},
                                      .options = greedy(chain(3)),
                                      .prompts = {prompts[0], prompts[1]}},
                                     known);
  const SpeculationStatistics &right = run.by_sequence[0], &wrong = run.by_sequence[1];
  CHECK(right.accepted == right.drafted);
  CHECK(right.rounds == 10);
  CHECK(wrong.accepted == 0);
  CHECK(wrong.drafted_at[0] == 38);  // 40 rounds; the first and the last one draft nothing
  CHECK(run.statistics.drafted == right.drafted + wrong.drafted);
  CHECK(run.statistics.accepted_at == right.accepted_at);
}

TEST_CASE("the repetition penalty counts drafts as text, in greedy speculation too") {
  GenerationOptions options = greedy();
  options.sampling.repetition_penalty = 1.3;
  const GenerationRun plain = generate({.options = options, .prompts = prompts});
  options.drafts = GENERATE(chain(3), TreeShape{3, 2, 2});
  ModelConfig same = tiny_model();
  const GenerationRun run = generate({.options = options, .prompts = prompts, .draft_model = same});
  CHECK(run.texts == plain.texts);
  CHECK(run.statistics.accepted_at == run.statistics.drafted_at);
}

TEST_CASE(
    "the best candidate has the largest joint probability under the whole model, and the likeliest token "
    "follows it") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(2)));
  CAPTURE(heads.name);
  GenerationOptions options = greedy({3, 3});
  options.keep_best = true;
  options.max_tokens = 4;  // one round without drafts, one with candidates of two tokens
  const std::vector<std::int32_t>& prompt = prompts[0];
  const GenerationRun run = generate({.mtp = heads.mtp, .options = options, .prompts = {prompt}});
  std::vector<std::int32_t> known(run.texts[0].begin(), run.texts[0].begin() + 9);
  CHECK(known.back() == next_token(prompt));
  const auto ln = [](const std::vector<float>& logits, std::int32_t token) {
    return std::log(distribution(logits, {}, {})[static_cast<std::size_t>(token)]);
  };
  const auto score = [&](std::int32_t first, std::int32_t second) {
    std::vector<std::int32_t> longer = known;
    longer.push_back(first);
    return ln(whole_logits(known), first) + ln(whole_logits(longer), second);
  };
  const double kept = score(run.texts[0][9], run.texts[0][10]);
  CHECK(run.texts[0][11] == next_token({run.texts[0].begin(), run.texts[0].end() - 1}));
  // If every token is a candidate, the best of all sequences is kept. No choice of candidates scores higher.
  options.drafts = {11, 11};
  const GenerationRun all = generate({.mtp = heads.mtp, .options = options, .prompts = {prompt}});
  double best = -1e300;
  for (std::int32_t first = 0; first < 11; ++first)
    for (std::int32_t second = 0; second < 11; ++second) best = std::max(best, score(first, second));
  CHECK(std::abs(score(all.texts[0][9], all.texts[0][10]) - best) < 1e-5);
  CHECK(kept <= best + 1e-5);
}

TEST_CASE("a prompt that the model cannot continue and too many drafts are refused") {
  const auto refuse = [](const std::string& message, const GenerationCase& of) {
    expect_error<UsageError>(message, [&] { generate(of); });
  };
  refuse("generate: prompt 2 is empty", {.options = greedy(), .prompts = {{1}, {}}});
  refuse("generate: prompt 1: token 11 is outside the vocabulary of 11",
         {.options = greedy(), .prompts = {{1, 11}}});
  refuse("generate: prompt 1 has 3 tokens, but the model has 3 positions",
         {.options = greedy(), .prompts = {{1, 2, 3}}, .positions = 3});
  refuse("drafts: a tree of 4, 4, 4, 4 children by depth has more than 255 drafts",
         {.mtp = {.depths = 1}, .options = greedy({4, 4, 4, 4}), .prompts = {{1}}});
  refuse("drafts: a tree of 2, 0 children by depth; each depth needs at least 1",
         {.mtp = {.depths = 1}, .options = greedy({2, 0}), .prompts = {{1}}});
  GenerationOptions sampled{.vocabulary = 11, .drafts = {2}, .keep_best = true};
  refuse("generate: keeping the best candidate needs temperature 0, found 1",
         {.mtp = {.depths = 1}, .options = sampled, .prompts = {{1}}});
  ModelConfig small = tiny_model();
  small.vocab_size = 10;
  refuse("drafts: the draft model's vocabulary has 10 tokens, expected at least 11",
         {.options = greedy({1}), .prompts = {{1}}, .draft_model = small});
}

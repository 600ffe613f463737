// Generating: plain rounds beside the whole model run anew for every token, speculative ones beside plain
// ones.

#include "model/generation/generator.h"

#include <algorithm>

#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/tiny_model.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

using Texts = std::vector<std::vector<std::int32_t>>;

const Texts prompts{{3, 1, 4, 1, 5, 9, 2, 6}, {5}, {3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2}, {6, 4}};

struct Run {
  Texts texts;
  SpeculationStatistics statistics;
  int rounds = 0;
};

/// `std` of the initial weights: small ones make a model that hardly looks at its input, whose heads agree.
Run generate(MtpConfig mtp, const GenerationOptions& options, const Texts& from, double std = 0.3,
             std::int64_t positions = 64) {
  TestStream stream;
  ModelConfig model = tiny_model();
  model.initializer_range = std;
  const auto sequences = static_cast<std::int64_t>(from.size());
  Decoder decoder(stream, {.model = model,
                           .mtp = mtp,
                           .sequences = sequences,
                           .positions = positions,
                           .rows = 7,
                           .logits = sequences * (1 + options.speculate)});
  decoder.parameters().initialize(stream, 11);
  Generator generator(decoder, options, from);
  Run run;
  Texts told = from;
  while (generator.round([&](std::size_t sequence, std::span<const std::int32_t> tokens) {
    told[sequence].insert(told[sequence].end(), tokens.begin(), tokens.end());
    return true;
  }))
    ++run.rounds;
  for (std::size_t i = 0; i < from.size(); ++i)
    run.texts.emplace_back(generator.text(i).begin(), generator.text(i).end());
  CHECK(told == run.texts);
  run.statistics = generator.statistics();
  return run;
}

GenerationOptions greedy(int speculate) {
  return {.sampling = {.temperature = 0}, .max_tokens = 40, .vocabulary = 11, .speculate = speculate};
}

/// The likeliest next token after a text, by the whole model.
std::int32_t next_token(const std::vector<std::int32_t>& text) {
  TestStream stream;
  ModelConfig model = tiny_model();
  const auto length = static_cast<std::int64_t>(text.size());
  RankModel whole(stream, serial_options(model, {}, {.rows = 1, .length = length}, DType::f32, 1));
  whole.parameters().initialize(stream, 11);
  std::vector<std::int32_t> tokens = text, starts(text.size() + 1);
  tokens.push_back(0);
  const std::vector<MicrobatchInput> input{
      {.tokens = tensor_over(std::span(tokens), {1, length + 1}),
       .document_start = tensor_over(std::span(starts), {1, length + 1})}};
  whole.begin_step({.mode = RankModel::Mode::evaluate, .microbatches = input});
  whole.forward(0, 0, 0);
  std::vector<float> logits(static_cast<std::size_t>(length * model.vocab_size));
  whole.logits(0, 0, 0, tensor_over(std::span(logits), {length, model.vocab_size}));
  const auto last = logits.end() - model.vocab_size;
  return static_cast<std::int32_t>(std::max_element(last, logits.end()) - last);
}

}  // namespace

TEST_CASE("greedy text is what the whole model gives when it is run anew for every token") {
  GenerationOptions options = greedy(0);
  options.max_tokens = 12;
  const Run run = generate({}, options, prompts);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::vector<std::int32_t> expected = prompts[i];
    for (int token = 0; token < 12; ++token) expected.push_back(next_token(expected));
    CHECK(run.texts[i] == expected);
  }
}

TEST_CASE("greedy speculative text is the plain text, token for token, for every kind of heads") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  const int speculate = GENERATE(range(1, 9));
  const double std = GENERATE(0.3, 0.02);
  CAPTURE(heads.name, speculate, std);
  const Run plain = generate({}, greedy(0), prompts, std);
  for (std::size_t count = 1; count <= prompts.size(); ++count) {
    const Texts some(prompts.begin(), prompts.begin() + static_cast<std::ptrdiff_t>(count));
    const Run run = generate(heads.mtp, greedy(speculate), some, std);
    CHECK(run.texts == Texts(plain.texts.begin(), plain.texts.begin() + static_cast<std::ptrdiff_t>(count)));
    CHECK(run.statistics.drafted > 0);
    CHECK(run.statistics.accepted <= run.statistics.drafted);
  }
}

TEST_CASE("what speculation reports adds up, and rounds it saves are saved") {
  // Residual heads of Medusa's form begin as the main model's: where a text repeats one token they are right.
  MtpConfig mtp{
      .kind = MtpConfig::Kind::residual, .depths = 3, .residual_form = MtpConfig::ResidualForm::medusa};
  GenerationOptions options = greedy(3);
  options.sampling.repetition_penalty = 1;
  const Run run = generate(mtp, options, {prompts[0]}, 0.3);
  const SpeculationStatistics& s = run.statistics;
  CHECK(s.rounds + s.accepted + 1 + (run.rounds - 1 - s.rounds) == 40);
  CHECK(s.accepted_at[0] + s.accepted_at[1] + s.accepted_at[2] == s.accepted);
  CHECK(s.accepted_at[0] >= s.accepted_at[1]);
  CHECK(s.accepted_at[1] >= s.accepted_at[2]);
  CHECK(s.mean_acceptance_length() == 1 + double(s.accepted) / double(s.rounds));
  CHECK(s.acceptance_rate() == double(s.accepted) / double(s.drafted));
}

TEST_CASE("a text does not depend on the texts beside it, and another seed gives another") {
  GenerationOptions options{.max_tokens = 30, .vocabulary = 11, .speculate = 2};
  const MtpConfig mtp{.depths = 2};
  const Run together = generate(mtp, options, prompts);
  const Run alone = generate(mtp, options, {prompts[0]});
  CHECK(alone.texts[0] == together.texts[0]);
  options.seed = 2;
  CHECK(generate(mtp, options, {prompts[0]}).texts[0] != alone.texts[0]);
}

TEST_CASE("a text ends with the end token, at the limit, or where the model has no more positions") {
  const Run free = generate({}, greedy(0), prompts);
  GenerationOptions options = greedy(4);
  options.end = free.texts[0][12];
  const auto first_end = std::find(free.texts[0].begin() + 8, free.texts[0].end(), options.end);
  const Run ended = generate({.depths = 2}, options, prompts);
  CHECK(ended.texts[0] == std::vector<std::int32_t>(free.texts[0].begin(), first_end + 1));
  CHECK(generate({.depths = 2}, greedy(4), prompts, 0.3, 20).texts[0].size() == 20);
  CHECK(free.texts[1].size() == 41);
}

TEST_CASE("a prompt that the model cannot take is refused") {
  const GenerationOptions options = greedy(0);
  expect_error<UsageError>("generate: prompt 2 is empty", [&] { generate({}, options, {{1}, {}}); });
  expect_error<UsageError>("generate: prompt 1: token 11 is outside of the vocabulary of 11", [&] {
    generate({}, options, {{1, 11}});
  });
  expect_error<UsageError>("generate: prompt 1 has 3 tokens, but the model has 3 positions", [&] {
    generate({}, options, {{1, 2, 3}}, 0.3, 3);
  });
}

#include "tests/support/models/generation_lab.h"

#include "tests/support/catch.h"

namespace foretoken::testing {

namespace {

class Lab {
 public:
  explicit Lab(const GenerationCase& of) : case_(of), decoder_(stream_, options(of, tiny_model(), of.mtp)) {
    decoder_.parameters().initialize(stream_, of.seed);
  }
  std::unique_ptr<Drafter> make_drafter() {
    if (case_.draft_model) {
      draft_decoder_ = std::make_unique<Decoder>(stream_, options(case_, *case_.draft_model, {}));
      draft_decoder_->parameters().initialize(stream_, case_.draft_seed);
      return std::make_unique<ModelDrafter>(*draft_decoder_, case_.options.vocabulary);
    }
    if (case_.mtp.depths == 0) return nullptr;
    return std::make_unique<HeadDrafter>(decoder_);
  }
  GenerationRun run(Drafter* drafter) {
    Generator generator(decoder_, case_.options, case_.prompts, drafter, case_.length);
    GenerationRun run;
    Texts told = case_.prompts;
    while (generator.round(
        [&](std::size_t sequence, std::span<const std::int32_t> tokens) -> std::optional<std::size_t> {
          const auto last = case_.last_token ? case_.last_token(sequence, tokens) : std::nullopt;
          const auto end = tokens.begin() + static_cast<std::ptrdiff_t>(last.value_or(tokens.size()));
          told[sequence].insert(told[sequence].end(), tokens.begin(), end);
          return last;
        }))
      ++run.rounds;
    for (std::size_t i = 0; i < case_.prompts.size(); ++i)
      run.texts.emplace_back(generator.text(i).begin(), generator.text(i).end());
    CHECK(told == run.texts);
    run.statistics = generator.statistics();
    for (std::size_t i = 0; i < case_.prompts.size(); ++i) run.by_sequence.push_back(generator.statistics(i));
    return run;
  }

 private:
  static DecoderOptions options(const GenerationCase& of, ModelConfig model, const MtpConfig& mtp) {
    model.initializer_range = of.std;
    const auto sequences = static_cast<std::int64_t>(of.prompts.size());
    const std::int64_t drafts = drafts_in(of.options.drafts);
    return {.model = model,
            .mtp = mtp,
            .sequences = sequences,
            .positions = of.positions,
            .branches = branches_of(of.options.drafts),
            .rows = of.rows,
            .logits = sequences * (1 + drafts)};
  }

  GenerationCase case_;
  TestStream stream_;
  Decoder decoder_;
  std::unique_ptr<Decoder> draft_decoder_;
};

}  // namespace

GenerationRun generate(const GenerationCase& of) {
  Lab lab(of);
  const std::unique_ptr<Drafter> drafter = lab.make_drafter();
  return lab.run(drafter.get());
}

GenerationRun generate(const GenerationCase& of, Drafter& drafter) {
  return Lab(of).run(&drafter);
}

TreeShape chain(int depth) {
  return TreeShape(static_cast<std::size_t>(depth), 1);
}

}  // namespace foretoken::testing

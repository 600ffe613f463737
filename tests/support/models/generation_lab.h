#pragma once
// Generation with tiny models of random weights: without drafts, or with drafts by the model's heads or by a
// second model, as chains and as trees.

#include "model/generation/generator.h"
#include "tests/support/models/tiny_model.h"

namespace foretoken::testing {

using Texts = std::vector<std::vector<std::int32_t>>;

struct GenerationCase {
  MtpConfig mtp;
  GenerationOptions options;
  Texts prompts;
  double std = 0.3;  // standard deviation of initial weights; with small weights the input has little effect
  std::int64_t positions = 64;
  std::uint64_t seed = 11;                   // seed of the weights
  std::optional<ModelConfig> draft_model{};  // drafts instead of the heads, with weights of `draft_seed`
  std::uint64_t draft_seed = 11;
  DraftLength* length = nullptr;
  Generator::OnTokens last_token{};  // undefined: texts continue to their limit
  std::int64_t rows = 7;             // prompt rows computed together
};

struct GenerationRun {
  Texts texts;
  SpeculationStatistics statistics;
  std::vector<SpeculationStatistics> by_sequence;
  int rounds = 0;
};
GenerationRun generate(const GenerationCase& of);
/// Like generate() above, with this drafter.
GenerationRun generate(const GenerationCase& of, Drafter& drafter);

TreeShape chain(int depth);

}  // namespace foretoken::testing

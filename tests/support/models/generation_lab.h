#pragma once
// Generates text with tiny models of random weights: without drafts, or with drafts of the model's heads or
// of a second model, as chains and as trees.

#include "model/generation/generator.h"
#include "tests/support/models/tiny_model.h"

namespace foretoken::testing {

using Texts = std::vector<std::vector<std::int32_t>>;

struct GenerationCase {
  MtpConfig mtp;
  GenerationOptions options;
  Texts prompts;
  double std = 0.3;  // standard deviation of the weights; if small, the output hardly depends on the input
  std::int64_t positions = 64;
  std::uint64_t seed = 11;  // seed of the weights
  std::optional<ModelConfig>
      draft_model{};  // if set, drafts instead of the heads, with weights of `draft_seed`
  std::uint64_t draft_seed = 11;
  DraftLength* length = nullptr;
  Generator::OnTokens last_token{};  // empty: no text ends because of its receiver
  std::int64_t rows = 7;             // maximum rows of a pass (DecoderOptions::rows)
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

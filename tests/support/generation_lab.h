#pragma once
// Generating with tiny models of random weights: plain, by their heads, by another model, in chains and
// trees.

#include "model/generation/generator.h"
#include "tests/support/tiny_model.h"

namespace foretoken::testing {

using Texts = std::vector<std::vector<std::int32_t>>;

struct GenerationCase {
  MtpConfig mtp;
  GenerationOptions options;
  Texts prompts;
  double std = 0.3;  // of initial weights: small ones make models that hardly look at their input
  std::int64_t positions = 64;
  std::uint64_t seed = 11;                   // of the weights
  std::optional<ModelConfig> draft_model{};  // drafts in place of the heads, with weights of `draft_seed`
  std::uint64_t draft_seed = 11;
  DraftLength* length = nullptr;
  Generator::OnTokens last_token{};  // undefined: texts go on to their limit
  std::int64_t rows = 7;             // of prompts that are computed together
};

struct GenerationRun {
  Texts texts;
  SpeculationStatistics statistics;
  int rounds = 0;
};
GenerationRun generate(const GenerationCase& of);
/// As above, with this drafter.
GenerationRun generate(const GenerationCase& of, Drafter& drafter);

TreeShape chain(int depth);

}  // namespace foretoken::testing

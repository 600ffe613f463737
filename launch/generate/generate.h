#pragma once
// foretoken generate: continues prompts, from a checkpoint of any layout. On several ranks the model is
// spread over all of them (model/decoder/trunk_pipeline.h), and rank 0 prints the text.

#include <cstdint>
#include <string>
#include <vector>

#include "launch/config/config.h"
#include "model/generation/draft_tree.h"
#include "model/generation/sampling.h"

namespace foretoken {

struct GenerateArguments {
  std::string path;                       // run (its newest checkpoint) or checkpoint
  std::vector<std::string> prompts;       // texts; "-": standard input
  std::vector<std::string> prompt_files;  // files, one prompt per file, after `prompts`; "-": standard input
  std::int64_t max_tokens = 128;          // new tokens per prompt
  SamplingOptions sampling{.temperature = 0.8};
  std::vector<std::string> stops;  // a text ends before the first of these strings
  std::uint64_t seed = 1;
  TreeShape drafts;  // per round, by the model's heads or the model of `draft_path`; empty: no speculation
  bool adapt_drafts = false;    // choose the fastest depth, up to the depth of `drafts`
  std::string draft_path;       // run or checkpoint of a smaller model; empty: the heads draft
  int parallel_candidates = 0;  // per depth, accepted as a whole, not lossless; 0: lossless drafts
  RunConfig::Device device = RunConfig::Device::automatic;
  bool echo = false;  // print each prompt before its text
  bool json = false;  // print one line of JSON per text instead of the text
};

/// Prints text to stdout as it is generated, several prompts one after another, or a line of JSON per text.
/// Statistics, and why each text ended, go to stderr.
/// Returns the exit code.
int generate(const GenerateArguments& arguments);

}  // namespace foretoken

#pragma once
// The command-line arguments of `foretoken generate`.

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
  int parallel_candidates = 0;  // N of --parallel-decode, which changes the text; 0: off
  RunConfig::Device device = RunConfig::Device::automatic;
  bool echo = false;  // print each prompt before its text
  bool json = false;  // print one line of JSON per text instead of the text
};

}  // namespace foretoken

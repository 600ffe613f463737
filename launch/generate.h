#pragma once
// foretoken generate: text after prompts, from a checkpoint of any layout, on one rank.

#include <cstdint>
#include <string>
#include <vector>

#include "launch/config.h"
#include "model/generation/sampling.h"

namespace foretoken {

struct GenerateArguments {
  std::string path;                       // run (its newest checkpoint) or checkpoint
  std::vector<std::string> prompts;       // texts
  std::vector<std::string> prompt_files;  // files, each a prompt as a whole; after the others
  std::int64_t max_tokens = 128;          // new ones of each prompt
  SamplingOptions sampling{.temperature = 0.8};
  std::vector<std::string> stops;  // a text ends before the first of these
  std::uint64_t seed = 1;
  int speculate = 0;  // tokens that prediction heads draft in a round
  RunConfig::Device device = RunConfig::Device::automatic;
};

/// Text goes to stdout while it comes, where there are several prompts one after another; figures go to
/// stderr. Returns the process's exit code.
int generate(const GenerateArguments& arguments);

}  // namespace foretoken

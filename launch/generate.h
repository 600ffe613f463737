#pragma once
// foretoken generate: text after prompts, from a checkpoint of any layout. On several ranks the
// model is spread over all of them (model/generation/trunk_pipeline.h), and rank 0 writes.

#include <cstdint>
#include <string>
#include <vector>

#include "launch/config.h"
#include "model/generation/draft_tree.h"
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
  TreeShape drafts;             // of a round, by the model's heads or by `draft_path`'s model; empty: plain
  bool adapt_drafts = false;    // as deep as pays, at most as deep as `drafts`
  std::string draft_path;       // run or checkpoint of a smaller model; empty: the heads draft
  int parallel_candidates = 0;  // of each depth; keep whole candidates, as likely as any; 0: lossless drafts
  RunConfig::Device device = RunConfig::Device::automatic;
};

/// Text goes to stdout while it comes, where there are several prompts one after another; figures go to
/// stderr. Returns the process's exit code.
int generate(const GenerateArguments& arguments);

}  // namespace foretoken

#include <algorithm>
#include <map>
#include <memory>

#include "launch/cli/flags.h"
#include "launch/config/number_flag.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

struct GenerateFlags {
  GenerateArguments arguments;
  std::string speculate;
  std::string tree;
  std::string device = "auto";
};

/// Example: "3,2,1".
TreeShape tree_of(const std::string& text) {
  TreeShape tree;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const auto children = read_integer(std::string_view(text).substr(begin, end - begin));
    if (!children || *children < 1 || *children > most_drafts)
      throw UsageError(
          "generate: --tree: expected integers, 1 to {}, with commas between them, found \"{}\"; see "
          "foretoken generate --help",
          most_drafts, text);
    tree.push_back(static_cast<int>(*children));
    begin = end + 1;
  }
  return tree;
}

/// Combines --speculate, --tree, --draft and --parallel-decode.
void resolve_drafts(const std::string& speculate, GenerateArguments& into) {
  constexpr int deepest = 64, deepest_automatic = 8;
  const bool fixed = !speculate.empty() && speculate != "auto";
  into.adapt_drafts = speculate == "auto" || (!fixed && into.drafts.empty() && !into.draft_path.empty());
  int depth = into.adapt_drafts ? deepest_automatic : 0;
  if (fixed) {
    const auto number = read_integer(speculate);
    if (!number || *number < 0 || *number > deepest)
      throw UsageError("generate: --speculate is {}, expected 0 to {} or auto; see foretoken generate --help",
                       speculate, deepest);
    depth = static_cast<int>(*number);
    if (!into.drafts.empty())
      throw UsageError("generate: --speculate {} contradicts --tree, which sets the depth", speculate);
  }
  if (into.adapt_drafts && into.parallel_candidates > 0)
    throw UsageError("generate: --speculate auto contradicts --parallel-decode, which needs one fixed depth");
  if (into.drafts.empty()) into.drafts.assign(static_cast<std::size_t>(depth), 1);
  validate(into.drafts);
}

RunConfig::Device device_of(const std::string& name) {
  using Device = RunConfig::Device;
  const std::map<std::string, Device> devices{
      {"auto", Device::automatic}, {"cpu", Device::cpu}, {"cuda", Device::cuda}};
  const auto device = devices.find(name);
  if (device == devices.end())
    throw UsageError(
        "generate: --device: expected auto, cpu or cuda, found \"{}\"; see foretoken generate --help", name);
  return device->second;
}

Command finish(const GenerateFlags& flags) {
  GenerateArguments arguments = flags.arguments;
  arguments.device = device_of(flags.device);
  if (!flags.tree.empty()) arguments.drafts = tree_of(flags.tree);
  resolve_drafts(flags.speculate, arguments);
  if (arguments.parallel_candidates > 0) arguments.sampling.temperature = 0;
  validate(arguments.sampling);
  for (const std::string& stop : arguments.stops)
    if (stop.empty()) throw UsageError("generate: --stop is empty; see foretoken generate --help");
  return arguments;
}

}  // namespace

CommandFlags add_generate(CLI::App& app) {
  const auto parsed = std::make_shared<GenerateFlags>();
  GenerateFlags& flags = *parsed;
  GenerateArguments& into = flags.arguments;
  CLI::App* command = app.add_subcommand("generate", "Continue prompts with a checkpoint's model");
  SamplingOptions& sampling = into.sampling;
  command->add_option("PATH", into.path, "run (its newest checkpoint) or checkpoint")->required();
  add_texts(*command, "--prompt", into.prompts, "text to continue, - for standard input; may be repeated");
  add_texts(*command, "--prompt-file", into.prompt_files,
            "file whose whole text is a prompt, - for standard input; may be repeated");
  add_number(*command, "--max-tokens", into.max_tokens, {1, 1 << 24},
             "maximum number of new tokens per prompt", true);
  add_number(*command, "--temperature", sampling.temperature, {0},
             "sampling temperature; 0: always the likeliest token", true);
  add_number(*command, "--top-k", sampling.top_k, {0}, "sample from the K likeliest tokens; 0: from all");
  add_number(*command, "--top-p", sampling.top_p, {0, 1, true},
             "sample from the likeliest tokens that together reach this probability");
  add_number(*command, "--min-p", sampling.min_p, {0, 1},
             "sample from tokens with at least this fraction of the likeliest token's probability");
  add_number(*command, "--repetition-penalty", sampling.repetition_penalty, {.above = true},
             "above 1: makes tokens that are already in the text less likely");
  add_texts(*command, "--stop", into.stops, "end the text before this string; may be repeated");
  add_number(*command, "--seed", into.seed, {0}, "seed of the sampling, below 2^64", true);
  command
      ->add_option("--speculate", flags.speculate,
                   "number of tokens that the prediction heads draft per round and the model verifies; auto: "
                   "the fastest number")
      ->type_name("K|auto");
  CLI::Option* tree = command
                          ->add_option("--tree", flags.tree,
                                       "draft a tree: number of continuations of each draft, by depth, such "
                                       "as 3,2,1; --speculate auto cuts it to the fastest depth")
                          ->type_name("N,N,...");
  CLI::Option* draft = command
                           ->add_option("--draft", into.draft_path,
                                        "run or checkpoint of a smaller model with the same tokenizer that "
                                        "drafts instead of the heads; "
                                        "implies --speculate auto unless --speculate or --tree is given")
                           ->type_name("CHECKPOINT");
  CLI::Option* parallel =
      add_number(
          *command, "--parallel-decode", into.parallel_candidates, {1, 64},
          "combine the N likeliest tokens of each head and keep the block that the model finds likeliest; "
          "greedy; the text differs from the text without this flag")
          ->type_name("N");
  parallel->excludes(tree)->excludes(draft);
  for (const char* sampled : {"--temperature", "--top-k", "--top-p", "--min-p"})
    parallel->excludes(command->get_option(sampled));
  CLI::Option* echo = command->add_flag("--echo", into.echo, "print each prompt before its text");
  command
      ->add_flag("--json", into.json,
                 "print one line of JSON per text: prompt, text, tokens, why it stopped, drafts, speed")
      ->excludes(echo);
  command->add_option("--device", flags.device, "auto (a GPU if there is one), cpu or cuda")
      ->capture_default_str();
  command->footer(
      "Speculation does not change the distribution of the text; at temperature 0 the text stays the same.\n"
      "With auto, timing decides how many tokens are drafted, so at other temperatures the same seed may\n"
      "give another text. Under mpirun the layers are spread over the ranks; the text is the same.\n"
      "\nExample:\n  foretoken generate runs/first --prompt \"Once upon\" --speculate 3"
      "\n  mpirun -n 4 foretoken generate runs/large --prompt \"Once upon\"");
  return {command, [parsed] { return finish(*parsed); }};
}

}  // namespace foretoken

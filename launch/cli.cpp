#include "launch/cli.h"

#include <algorithm>
#include <map>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "launch/config/config_loader.h"
#include "launch/config/config_validator.h"
#include "launch/config/number_flag.h"
#include "launch/config/options.h"
#include "launch/config/train_config.h"
#include "runtime/error.h"

namespace foretoken {
namespace {

struct TrainFlags {
  TrainArguments arguments;
  bool print_config = false;
  bool list_options = false;
};

CLI::App* add_tokenize(CLI::App& app, TokenizeOptions& into) {
  CLI::App* command = app.add_subcommand("tokenize", "Turn text files and folders into a token dataset");
  command->add_option("PATHS", into.paths, "files and folders (searched recursively)")->required();
  command->add_option("-o,--output", into.output, "dataset to write (HDF5)")->required();
  command->add_option("--tokenizer", into.tokenizer, "bytes: one token a byte")->capture_default_str();
  auto* validation =
      command->add_option("--validation-output", into.validation_output, "dataset of held-out documents");
  add_number(*command, "--validation-fraction", into.validation_fraction, {0, 1},
             "share of documents held out", true)
      ->needs(validation);
  command->footer(
      "Example:\n  foretoken tokenize src/ notes.txt -o data.h5 --validation-output validation.h5");
  return command;
}

CLI::App* add_train(CLI::App& app, TrainFlags& into) {
  CLI::App* command = app.add_subcommand("train", "Train a model on the ranks that mpirun starts");
  command->add_option("CONFIG", into.arguments.config_path, "configuration file (TOML)");
  command->add_option("--set", into.arguments.sets, "section.key=value: overrides the file; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  auto* resume =
      command->add_option("--resume", into.arguments.resume,
                          "run or checkpoint to go on with; CONFIG and --set override its settings");
  command->add_flag(
      "--allow-other-data", into.arguments.allow_other_data,
      "where a run is resumed: go on with other training or validation data than the checkpoint's");
  command
      ->add_option(
          "--from", into.arguments.from,
          "run or checkpoint whose weights and settings a new run starts from; CONFIG and --set override "
          "the settings, and prediction heads may be others")
      ->excludes(resume);
  add_number(*command, "--stop-after", into.arguments.stop_after, {1},
             "stop with a checkpoint after this step, or at once where the run is past it");
  command
      ->add_option("--run-directory", into.arguments.run_directory,
                   "run folder to make, instead of a name of its own")
      ->excludes(resume);
  command->add_flag(
      "--auto-resume", into.arguments.auto_resume,
      "go on with the run in --run-directory where it holds a checkpoint, with that run's settings and "
      "--set; else start it there with CONFIG and --set");
  command->add_flag("--auto-layout", into.arguments.auto_layout,
                    "parallel.elastic: another layout where the settings' does not fit the ranks");
  command->add_flag("--print-config", into.print_config, "print the resolved configuration and stop");
  command->add_flag("--list-options", into.list_options, "print all settings as Markdown tables and stop");
  command->footer("Settings (of CONFIG and --set), with their defaults:\n" + option_help() +
                  "\nExample:\n  mpirun -n 4 foretoken train train.toml --set parallel.pp=2"
                  "\n  mpirun -n 4 foretoken train --from runs/first --set mtp.depths=3");
  return command;
}

CLI::App* add_evaluate(CLI::App& app, EvaluateArguments& into) {
  CLI::App* command = app.add_subcommand(
      "evaluate", "Report a checkpoint's losses, and what drafts it accepts, on a dataset");
  command->add_option("PATH", into.path, "run (its newest checkpoint) or checkpoint")->required();
  command->add_option("--data", into.data, "token dataset (HDF5)")->required();
  add_number(*command, "--rows", into.rows, {0}, "rows to evaluate, 0: all");
  add_number(*command, "--free-running", into.free_running, {0},
             "prompts cut from the rows, after which the model writes text greedily with drafts of all "
             "depths, 0: none",
             true);
  command->add_option("--metrics", into.metrics,
                      "file to append the figures to, as a line of a run's metrics.jsonl");
  command->add_option("--set", into.sets, "section.key=value over the checkpoint's settings; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  command->footer(
      "Example:\n  mpirun -n 4 foretoken evaluate runs/first --data validation.h5 --set parallel.pp=4");
  return command;
}

struct GenerateFlags {
  GenerateArguments arguments;
  std::string speculate;
  std::string tree;
};

CLI::App* add_generate(CLI::App& app, GenerateFlags& flags) {
  GenerateArguments& into = flags.arguments;
  CLI::App* command = app.add_subcommand("generate", "Write text after prompts with a checkpoint's model");
  const auto texts = [&](const char* name, std::vector<std::string>& values, const char* help) {
    command->add_option(name, values, help)->take_all()->allow_extra_args(false);
  };
  SamplingOptions& sampling = into.sampling;
  command->add_option("PATH", into.path, "run (its newest checkpoint) or checkpoint")->required();
  texts("--prompt", into.prompts, "text to go on with; may be repeated");
  texts("--prompt-file", into.prompt_files, "file whose whole text is a prompt; may be repeated");
  add_number(*command, "--max-tokens", into.max_tokens, {1, 1 << 24}, "new tokens of each prompt, at most",
             true);
  add_number(*command, "--temperature", sampling.temperature, {0},
             "of the distribution; 0: the likeliest token", true);
  add_number(*command, "--top-k", sampling.top_k, {0}, "draw from the k likeliest tokens, 0: from all");
  add_number(*command, "--top-p", sampling.top_p, {0, 1, true},
             "draw from the likeliest that together reach this probability");
  add_number(*command, "--min-p", sampling.min_p, {0, 1},
             "draw from tokens of at least this share of the likeliest's");
  add_number(*command, "--repetition-penalty", sampling.repetition_penalty, {.above = true},
             "makes tokens that the text holds already less likely, 1: not");
  texts("--stop", into.stops, "a text ends before this one; may be repeated");
  add_number(*command, "--seed", into.seed, {0}, "of the draws, below 2^64", true);
  command
      ->add_option("--speculate", flags.speculate,
                   "tokens that the prediction heads draft in a round, for the model to verify: a number, or "
                   "auto for as many as pay")
      ->type_name("K|auto");
  CLI::Option* tree =
      command
          ->add_option("--tree", flags.tree,
                       "draft a tree: how many ways to go on after each draft, by depth, such as 3,2,1; with "
                       "--speculate auto as deep as pays")
          ->type_name("N,N,...");
  CLI::Option* draft =
      command
          ->add_option(
              "--draft", into.draft_path,
              "run or checkpoint of a smaller model over the same tokens, which drafts in place of the "
              "heads; without --speculate or --tree as much as pays")
          ->type_name("CHECKPOINT");
  CLI::Option* parallel =
      add_number(*command, "--parallel-decode", into.parallel_candidates, {1, 64},
                 "take blocks of tokens as a whole: of the product of the heads' likeliest N the one that "
                 "the model finds likeliest; not the text of plain decoding, and without sampling")
          ->type_name("N");
  parallel->excludes(tree)->excludes(draft);
  for (const char* sampled : {"--temperature", "--top-k", "--top-p", "--min-p"})
    parallel->excludes(command->get_option(sampled));
  using Device = RunConfig::Device;
  command->add_option("--device", into.device, "auto: a GPU where there is one")
      ->transform(CLI::CheckedTransformer(std::map<std::string, Device>{{"auto", Device::automatic},
                                                                        {"cpu", Device::cpu},
                                                                        {"cuda", Device::cuda}})
                      .description("auto, cpu or cuda"))
      ->type_name("TEXT")
      ->default_str("auto");
  command->footer(
      "Speculation leaves the text's distribution as it is, at temperature 0 the text. With auto the same "
      "seed\n"
      "may give another text at other temperatures, since time decides how deep to draft.\n"
      "Under mpirun the model is spread over the ranks, for one that a device does not hold; the text is the "
      "same.\n"
      "\nExample:\n  foretoken generate runs/first --prompt \"Once upon\" --speculate 3"
      "\n  mpirun -n 4 foretoken generate runs/large --prompt \"Once upon\"");
  return command;
}

CLI::App* add_inspect(CLI::App& app, InspectArguments& into) {
  CLI::App* command = app.add_subcommand("inspect", "Show what a checkpoint or dataset holds");
  command->add_option("PATH", into.path, "run (its newest checkpoint), checkpoint or token dataset")
      ->required();
  command->add_flag("--verify", into.verify, "read every byte and compare its digest");
  command->add_flag("--flight", into.flight,
                    "show instead which rank the others waited for when a run ended with code 5");
  command->footer(
      "Example:\n  foretoken inspect runs/first --verify\n  foretoken inspect runs/first --flight");
  return command;
}

CLI::App* add_run(CLI::App& app, RunArguments& into) {
  CLI::App* command = app.add_subcommand(
      "run", "Start the ranks of a training run, and again from the newest checkpoint after a failure");
  command->add_option("CONFIG", into.config_path, "configuration file (TOML)")->required();
  command->add_option("--run-directory", into.run_directory, "run folder: started anew, or gone on with")
      ->required();
  add_number(*command, "-n,--ranks", into.ranks, {1, 1 << 20},
             "ranks; default: SLURM_NTASKS, else parallel.pp × parallel.dp");
  command->add_option("--launcher", into.launcher,
                      "command that starts the ranks, default mpirun; {ranks} stands for their number, else "
                      "-n and the number are appended");
  add_number(*command, "--max-restarts", into.max_restarts, {0, 1 << 20},
             "restarts in a row that bring no newer checkpoint, before the run is given up", true);
  add_number(*command, "--grace", into.grace, {1, 1 << 20},
             "seconds that ranks have for a checkpoint after a signal, before they are killed", true);
  command->add_option("--hostfile", into.hostfile,
                      "hosts and their slots, in Open MPI's form; those that ssh reaches get ranks");
  command->add_flag(
      "--elastic", into.elastic,
      "where the ranks do not fit the layout, or hosts are gone, start as many as the fastest legal "
      "layout takes");
  command->add_option("--set", into.sets, "section.key=value over CONFIG; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  command->footer(
      "TERM, INT, HUP and USR1 ask the ranks for a checkpoint; code 75 then says: the same command goes on.\n"
      "Codes 2 and 3 end the run, 1 and 4 after a second try, all others are tried again.\n"
      "Logs are in RUN/attempts.\n"
      "\nExample:\n  foretoken run train.toml --run-directory runs/first -n 4"
      "\n  foretoken run train.toml --run-directory runs/first --launcher \"srun --mpi=pmix\"");
  return command;
}

CLI::App* add_study(CLI::App& app, StudyArguments& into) {
  CLI::App* command =
      app.add_subcommand("study", "Run the points of a sweep one after another and report them side by side");
  command->add_option("SWEEP", into.sweep, "sweep file (TOML): a configuration and what is varied in it")
      ->required();
  command->add_option(
      "--launcher", into.launcher,
      "command that starts the ranks, instead of the sweep's; {ranks} stands for their number");
  command->add_option("--set", into.sets, "section.key=value over every point; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  command->footer(
      "Points that are done are not run again: the same command goes on with an interrupted study.\n"
      "\nA sweep file is a configuration file with\n\n"
      "  [study]\n"
      "  base = \"quickstart.toml\"                # a configuration beside this file, applied first\n"
      "  ranks = 2                               # of every point, default 1\n"
      "  directory = \"runs/study\"                # where all is written, default runs/NAME\n"
      "  launcher = \"mpirun -n {ranks}\"          # default\n\n"
      "  [axes]                                  # every combination is a point\n"
      "  mtp.kind = [\"parallel\", \"linear\"]\n"
      "  mtp.depths = [1, 2]\n\n"
      "  [[points]]                              # and points of their own\n"
      "  name = \"no heads\"\n"
      "  ranks = 1\n"
      "  mtp.depths = 0\n"
      "\nExample:\n  foretoken study launch/configs/study_cpu.toml");
  return command;
}

Command finish_train(const TrainFlags& flags) {
  if (flags.arguments.auto_resume && flags.arguments.run_directory.empty())
    throw UsageError("train: --auto-resume needs --run-directory; see foretoken train --help");
  if (flags.arguments.allow_other_data && flags.arguments.resume.empty() && !flags.arguments.auto_resume)
    throw UsageError("train: --allow-other-data needs --resume or --auto-resume; see foretoken train --help");
  if (flags.list_options) return PrintText{option_markdown()};
  Config config = resolve_config(flags.arguments, likely_resume(flags.arguments));
  if (flags.print_config) return PrintText{to_toml(config)};
  return TrainCommand{std::move(config), flags.arguments};
}

Command finish_run(const RunArguments& arguments) {
  Config config;
  apply_toml_file(config, arguments.config_path);
  apply_sets(config, arguments.sets);
  if (arguments.elastic) config.parallel.elastic = true;
  return SuperviseCommand{std::move(config), arguments};
}

/// Example: "3,2,1".
TreeShape tree_of(const std::string& text) {
  TreeShape tree;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const auto children = read_integer(std::string_view(text).substr(begin, end - begin));
    if (!children || *children < 1 || *children > most_drafts)
      throw UsageError(
          "generate: --tree: found \"{}\", expected integers, 1 to {}, with commas between them; see "
          "foretoken generate --help",
          text, most_drafts);
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
      throw UsageError("generate: --speculate {} and --tree, which has depths of its own", speculate);
  }
  if (into.adapt_drafts && into.parallel_candidates > 0)
    throw UsageError("generate: --speculate auto and --parallel-decode, which takes blocks of one length");
  if (into.drafts.empty()) into.drafts.assign(static_cast<std::size_t>(depth), 1);
  validate(into.drafts);
}

Command finish_generate(const GenerateFlags& flags) {
  GenerateArguments arguments = flags.arguments;
  if (!flags.tree.empty()) arguments.drafts = tree_of(flags.tree);
  resolve_drafts(flags.speculate, arguments);
  if (arguments.parallel_candidates > 0) arguments.sampling.temperature = 0;
  validate(arguments.sampling);
  for (const std::string& stop : arguments.stops)
    if (stop.empty()) throw UsageError("generate: --stop is empty; see foretoken generate --help");
  return arguments;
}

Command finish_evaluate(const EvaluateArguments& arguments) {
  Config scratch;  // reports a misspelt flag before anything is read
  apply_sets(scratch, arguments.sets);
  return arguments;
}

/// For options with several values CLI11 parses "[a,b]" as a list, so no file could have such a name. A NUL
/// byte, which no argument can contain, is appended to such arguments and removed from the values.
std::vector<std::string> marked_as_literal(std::vector<std::string> arguments) {
  for (std::string& argument : arguments)
    if (argument.starts_with('[') && argument.ends_with(']')) argument += '\0';
  return arguments;
}

void remove_literal_marks(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands({}))
    for (CLI::Option* option : command->get_options())
      option->transform(CLI::Validator(
          [](std::string& value) {
            if (value.ends_with('\0')) value.pop_back();
            return std::string();
          },
          "", ""));
}

}  // namespace

Command parse_command_line(const std::vector<std::string>& arguments) {
  TokenizeOptions tokenize_arguments;
  TrainFlags train_flags;
  EvaluateArguments evaluate_arguments;
  GenerateFlags generate_flags;
  InspectArguments inspect_arguments;
  StudyArguments study_arguments;
  RunArguments run_arguments;

  CLI::App app("Foretoken trains language models that predict several tokens ahead.", "foretoken");
  app.set_version_flag("--version", "foretoken " FORETOKEN_VERSION);
  app.require_subcommand(1);
  app.footer("foretoken COMMAND --help tells more about a command.\nExample:\n  foretoken train --help");
  const CLI::App* tokenize = add_tokenize(app, tokenize_arguments);
  const CLI::App* train = add_train(app, train_flags);
  const CLI::App* evaluate = add_evaluate(app, evaluate_arguments);
  const CLI::App* generate = add_generate(app, generate_flags);
  const CLI::App* study = add_study(app, study_arguments);
  const CLI::App* run = add_run(app, run_arguments);
  add_inspect(app, inspect_arguments);
  remove_literal_marks(app);

  const auto chosen = [&]() -> const CLI::App* {
    const auto commands = app.get_subcommands();
    return commands.empty() ? nullptr : commands.front();
  };
  try {
    std::vector<std::string> literal = marked_as_literal(arguments);
    std::reverse(literal.begin(), literal.end());  // CLI11 takes arguments from the back
    app.parse(literal);
  } catch (const CLI::CallForHelp&) {
    return PrintText{app.help()};
  } catch (const CLI::CallForVersion& version) {
    return PrintText{std::string(version.what()) + "\n"};
  } catch (const CLI::ParseError& error) {
    if (chosen() == nullptr && !arguments.empty() && !arguments.front().starts_with('-'))
      throw UsageError("command line: {}: there is no such command; see foretoken --help", arguments.front());
    if (chosen() == nullptr) throw UsageError("command line: {}; see foretoken --help", error.what());
    const std::string command = chosen()->get_name();
    throw UsageError("{}: {}; see foretoken {} --help", command, error.what(), command);
  }
  if (chosen() == tokenize) return tokenize_arguments;
  if (chosen() == train) return finish_train(train_flags);
  if (chosen() == evaluate) return finish_evaluate(evaluate_arguments);
  if (chosen() == generate) return finish_generate(generate_flags);
  if (chosen() == study) return study_arguments;
  if (chosen() == run) return finish_run(run_arguments);
  return inspect_arguments;
}

}  // namespace foretoken

#include "launch/cli.h"

#include <algorithm>
#include <map>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "launch/cli_help.h"
#include "launch/cli_hints.h"
#include "launch/config/config_loader.h"
#include "launch/config/config_validator.h"
#include "launch/config/number_flag.h"
#include "launch/config/options.h"
#include "launch/session/train_config.h"
#include "runtime/error.h"

namespace foretoken {
namespace {

struct TrainFlags {
  TrainArguments arguments;
  bool print_config = false;
  bool list_options = false;
};

/// A flag that may be repeated, with one value each time.
void add_texts(CLI::App& command, const char* name, std::vector<std::string>& values, const char* help) {
  command.add_option(name, values, help)->take_all()->allow_extra_args(false);
}

CLI::App* add_tokenize(CLI::App& app, TokenizeOptions& into) {
  CLI::App* command = app.add_subcommand("tokenize", "Turn text files and folders into a token dataset");
  command->add_option("PATHS", into.paths, "text files and folders (searched recursively)")->required();
  command->add_option("-o,--output", into.output, "token dataset to write (HDF5)")->required();
  command->add_option("--tokenizer", into.tokenizer, "bytes (one token per byte)")->capture_default_str();
  auto* validation = command->add_option("--validation-output", into.validation_output,
                                         "token dataset of the documents held out for validation (HDF5)");
  add_number(*command, "--validation-fraction", into.validation_fraction, {0, 1},
             "fraction of all tokens to hold out, in whole documents", true)
      ->needs(validation);
  command->footer(
      "Example:\n  foretoken tokenize src/ notes.txt -o data.h5 --validation-output validation.h5");
  return command;
}

CLI::App* add_train(CLI::App& app, TrainFlags& into) {
  CLI::App* command = app.add_subcommand("train", "Train a model on the ranks that mpirun starts");
  command->add_option("CONFIG", into.arguments.config_path, "configuration file (TOML)");
  add_texts(*command, "--set", into.arguments.sets, "section.key=value: overrides the file; may be repeated");
  auto* resume = command->add_option("--resume", into.arguments.resume,
                                     "run or checkpoint to resume; CONFIG and --set override its settings");
  command->add_flag("--allow-other-data", into.arguments.allow_other_data,
                    "resume although the training or validation data differs from the checkpoint's");
  command
      ->add_option(
          "--from", into.arguments.from,
          "start a new run with the weights and settings of this run or checkpoint; CONFIG and --set "
          "override the settings, and the prediction heads may differ")
      ->excludes(resume);
  add_number(*command, "--stop-after", into.arguments.stop_after, {1},
             "stop with a checkpoint after this step; immediately if the run is already past it");
  command
      ->add_option("--run-directory", into.arguments.run_directory,
                   "run folder to create; default: a new folder in run.directory")
      ->excludes(resume);
  command->add_flag("--auto-resume", into.arguments.auto_resume,
                    "if the run in --run-directory has a checkpoint, resume it with its own settings and "
                    "--set; otherwise start a run there with CONFIG and --set");
  command->add_flag("--auto-layout", into.arguments.auto_layout,
                    "choose another layout if the configured one does not fit the ranks (parallel.elastic)");
  command->add_flag("--print-config", into.print_config, "print the resolved configuration and exit");
  command->add_flag("--list-options", into.list_options, "print all settings as Markdown tables and exit");
  command->footer("Settings for CONFIG and --set, with their defaults:\n" + option_help() +
                  "\nExample:\n  mpirun -n 4 foretoken train train.toml --set parallel.pp=2"
                  "\n  mpirun -n 4 foretoken train --from runs/first --set mtp.depths=3");
  return command;
}

CLI::App* add_evaluate(CLI::App& app, EvaluateArguments& into) {
  CLI::App* command =
      app.add_subcommand("evaluate", "Report a checkpoint's losses and draft acceptance on a dataset");
  command->add_option("PATH", into.path, "run (its newest checkpoint) or checkpoint")->required();
  command->add_option("--data", into.data, "token dataset (HDF5)")->required();
  add_number(*command, "--rows", into.rows, {0}, "rows to evaluate; 0: all");
  add_number(*command, "--free-running", into.free_running, {0},
             "number of prompts, taken from the rows, that the model continues greedily with drafts of all "
             "depths; 0: none",
             true);
  command->add_option("--metrics", into.metrics,
                      "file to append the results to, in the form of a run's metrics.jsonl");
  add_texts(*command, "--set", into.sets,
            "section.key=value: overrides the checkpoint's settings; may be repeated");
  command->footer(
      "Example:\n  mpirun -n 4 foretoken evaluate runs/first --data validation.h5 --set parallel.pp=4");
  return command;
}

struct GenerateFlags {
  GenerateArguments arguments;
  std::string speculate;
  std::string tree;
  std::string device = "auto";
};

CLI::App* add_generate(CLI::App& app, GenerateFlags& flags) {
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
  return command;
}

CLI::App* add_inspect(CLI::App& app, InspectArguments& into) {
  CLI::App* command = app.add_subcommand("inspect", "Show what a run, checkpoint or token dataset contains");
  command->add_option("PATH", into.path, "run (its newest checkpoint), checkpoint or token dataset")
      ->required();
  command->add_flag("--verify", into.verify, "read every byte and check all digests");
  command->add_flag("--flight", into.flight,
                    "show which rank the others waited for when a run ended with code 5");
  command->footer(
      "Example:\n  foretoken inspect runs/first --verify\n  foretoken inspect runs/first --flight");
  return command;
}

CLI::App* add_run(CLI::App& app, RunArguments& into) {
  CLI::App* command =
      app.add_subcommand("run", "Start the ranks of a training run and restart them after a failure");
  command->add_option("CONFIG", into.config_path, "configuration file (TOML)")->required();
  command
      ->add_option("--run-directory", into.run_directory,
                   "run folder: created if it is new, otherwise resumed")
      ->required();
  add_number(*command, "-n,--ranks", into.ranks, {1, 1 << 20},
             "ranks; default: SLURM_NTASKS, else parallel.pp × parallel.dp");
  command->add_option("--launcher", into.launcher,
                      "command that starts the ranks; {ranks} stands for their number, otherwise -n and the "
                      "number are appended; default: mpirun");
  add_number(*command, "--max-restarts", into.max_restarts, {0, 1 << 20},
             "consecutive restarts without a newer checkpoint after which the run is given up", true);
  add_number(*command, "--grace", into.grace, {1, 1 << 20},
             "seconds for the ranks to write a checkpoint after a signal before they are killed", true);
  command->add_option("--hostfile", into.hostfile,
                      "hosts and their slots, in Open MPI's format; only hosts that ssh reaches are used");
  command->add_flag("--elastic", into.elastic,
                    "if the ranks do not fit the layout or hosts are missing, use the fastest valid layout "
                    "for the remaining ranks");
  command->add_flag("--doctor", into.doctor,
                    "first run foretoken doctor on the same ranks, and end with its code if it is not 0");
  add_texts(*command, "--set", into.sets, "section.key=value: overrides CONFIG; may be repeated");
  command->footer(
      "TERM, INT, HUP and USR1 make the ranks write a checkpoint and stop. The exit code is then 75, and\n"
      "the same command resumes the run. Exit codes 2 and 3 of the ranks end the run, 1 and 4 end it after\n"
      "one more attempt; after all others the ranks are restarted. Logs are in RUN/attempts.\n"
      "\nExample:\n  foretoken run train.toml --run-directory runs/first -n 4"
      "\n  foretoken run train.toml --run-directory runs/first --launcher \"srun --mpi=pmix\"");
  return command;
}

CLI::App* add_report(CLI::App& app, ReportArguments& into) {
  CLI::App* command = app.add_subcommand("report", "Show what runs have reported on one page");
  command->add_option("RUN", into.run, "folder of a run, or one of its checkpoints")->required();
  command->add_option("--compare", into.compare, "further runs, drawn into the same figures");
  command->add_option("-o,--output", into.output, "the page to write (HTML, without external parts)")
      ->required();
  command->footer(
      "The page shows losses by depth, learning rate, gradient norm, acceptance, speed, memory, where the "
      "time\n"
      "goes, and the timeline of a step that train.trace_step traced beside the simulated one.\n"
      "\nExample:\n  foretoken report runs/a --compare runs/b -o report.html");
  return command;
}

struct PlanFlags {
  PlanArguments arguments;
  std::string ranks;
};

CLI::App* add_plan(CLI::App& app, PlanFlags& flags) {
  PlanArguments& into = flags.arguments;
  CLI::App* command =
      app.add_subcommand("plan", "Compare the layouts of a configuration: memory, step time, cost");
  command->add_option("CONFIG", into.config_path, "configuration file (TOML)")->required();
  command->add_option("--gpus", flags.ranks, "numbers of devices, with one rank each, such as 8,64,2048")
      ->type_name("N,N,...")
      ->required();
  command->add_option("--gpu", into.device, "h100, h200 or cpu; default: cpu if run.device is cpu, else h100")
      ->type_name("NAME");
  command
      ->add_option("--memory", into.memory,
                   "memory of one device, such as 80GiB; default: the device's; for cpu no limit")
      ->type_name("SIZE");
  add_number(*command, "--per-node", into.per_node, {1, 1 << 20}, "ranks of a node", true);
  add_number(*command, "--top", into.top, {1, 1000}, "layouts to show", true);
  command->add_flag("--json", into.json, "print JSON instead of tables");
  add_texts(*command, "--set", into.sets,
            "section.key=value: overrides CONFIG, and the setting is not varied; may be repeated");
  command->footer(
      "Layouts vary parallel.pp, dp, virtual_stages, schedule and sharded_optimizer, train.microbatch and\n"
      "recompute, and mtp.placement; the global batch stays. The command needs no ranks and no such device.\n"
      "\nExample:\n  foretoken plan train.toml --gpus 8,64 --set train.recompute=selective");
  return command;
}

CLI::App* add_doctor(CLI::App& app, DoctorArguments& into) {
  CLI::App* command =
      app.add_subcommand("doctor", "Check machine, devices, links and run folder before a long job");
  command->add_option("CONFIG", into.config_path,
                      "configuration file (TOML) whose layout and device are checked; default: one pipeline "
                      "of all ranks");
  command->add_option("--run", into.run, "run folder to check; its parent if it does not exist yet");
  command->add_flag("--json", into.json, "print everything as JSON instead of a table");
  command->add_option("--save", into.save, "file for the measured rates of devices and links (JSON)");
  add_texts(*command, "--set", into.sets, "section.key=value: overrides CONFIG; may be repeated");
  command->footer(
      "The exit code is 5 if something is wrong. Warnings do not change it.\n"
      "\nExample:\n  mpirun -n 4 foretoken doctor train.toml --run runs/first");
  return command;
}

CLI::App* add_study(CLI::App& app, StudyArguments& into) {
  CLI::App* command =
      app.add_subcommand("study", "Run the points of a sweep one after another and compare them");
  command->add_option("SWEEP", into.sweep, "sweep file (TOML): a configuration and the settings to vary")
      ->required();
  command->add_option(
      "--launcher", into.launcher,
      "command that starts the ranks, overrides the sweep's; {ranks} stands for their number");
  add_texts(*command, "--set", into.sets, "section.key=value: overrides every point; may be repeated");
  command->footer(
      "The same command continues an interrupted study: points that are done are not run again.\n"
      "\nA sweep file is a configuration file with\n\n"
      "  [study]\n"
      "  base = \"quickstart.toml\"                # a configuration beside this file, applied first\n"
      "  ranks = 2                               # per point, default 1\n"
      "  directory = \"runs/study\"                # output folder, default runs/NAME\n"
      "  launcher = \"mpirun -n {ranks}\"          # default\n\n"
      "  [axes]                                  # every combination is a point\n"
      "  mtp.kind = [\"parallel\", \"linear\"]\n"
      "  mtp.depths = [1, 2]\n\n"
      "  [[points]]                              # additional points\n"
      "  name = \"no heads\"\n"
      "  ranks = 1\n"
      "  mtp.depths = 0\n\n"
      "A scaling study has instead of [[points]]\n\n"
      "  [scaling]\n"
      "  mode = \"strong\"                         # or \"weak\": the global batch grows with the ranks\n"
      "  ranks = [1, 2, 4, 8]\n"
      "  layout = \"best\"                         # the shortest simulated step; without it [parallel] and "
      "[axes]\n"
      "  repeats = 3                             # default; median and spread are reported\n"
      "  warmup_steps = 5                        # default; first steps that are not measured\n"
      "\nExamples:\n  foretoken study launch/configs/study_cpu.toml"
      "\n  foretoken study launch/configs/scaling_strong_cpu.toml");
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

Command finish_doctor(const DoctorArguments& arguments) {
  Config config;
  if (!arguments.config_path.empty()) apply_toml_file(config, arguments.config_path);
  apply_sets(config, arguments.sets);
  return DoctorCommand{std::move(config), arguments};
}

Command finish_plan(const PlanFlags& flags) {
  PlanCommand command{.config = {}, .arguments = flags.arguments};
  command.arguments.ranks = rank_counts(flags.ranks);
  apply_toml_file(command.config, flags.arguments.config_path);
  apply_sets(command.config, flags.arguments.sets);
  return command;
}

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

Command finish_generate(const GenerateFlags& flags) {
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

Command finish_evaluate(const EvaluateArguments& arguments) {
  Config scratch;  // reports a misspelt key before any file is read
  apply_sets(scratch, arguments.sets);
  return arguments;
}

/// CLI11 parses "[a,b]" as a list if an option takes several values, so no file could have such a name. A NUL
/// byte, which no argument can contain, is appended to such arguments and removed from the values.
std::vector<std::string> marked_as_literal(std::vector<std::string> arguments) {
  for (std::string& argument : arguments)
    if (argument.starts_with('[') && argument.ends_with(']')) argument += '\0';
  return arguments;
}

/// Names the values of flags for --help, such as FILE.
void name_values(CLI::App& app) {
  const std::map<std::string, const char*> types{{"--output", "FILE"},
                                                 {"--validation-output", "FILE"},
                                                 {"--data", "FILE"},
                                                 {"--metrics", "FILE"},
                                                 {"--prompt-file", "FILE"},
                                                 {"--hostfile", "FILE"},
                                                 {"--resume", "PATH"},
                                                 {"--from", "PATH"},
                                                 {"--run-directory", "FOLDER"},
                                                 {"--run", "FOLDER"},
                                                 {"--save", "FILE"},
                                                 {"--tokenizer", "NAME"},
                                                 {"--device", "NAME"},
                                                 {"--launcher", "COMMAND"},
                                                 {"--set", "KEY=VALUE"}};
  for (CLI::App* command : app.get_subcommands({})) {
    command->group("Commands");
    for (CLI::Option* option : command->get_options())
      if (const auto type = types.find(option->get_name()); type != types.end())
        option->type_name(type->second);
  }
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

std::string with_help(const std::string& message, const std::string& command) {
  return fmt::format("{}{} {} --help", message, message.ends_with('?') ? " See" : "; see", command);
}

/// Throws a UsageError for arguments that CLI11 does not accept. If there is a hint, it replaces CLI11's
/// message, which reports a missing argument even if the cause is a misspelt flag.
[[noreturn]] void refuse(const CLI::App& app, const CLI::App* command,
                         const std::vector<std::string>& arguments, const std::string& what) {
  if (command == nullptr && !arguments.empty() && !arguments.front().starts_with('-'))
    throw UsageError("command line: {}", with_help(unknown_command(app, arguments.front()), "foretoken"));
  if (arguments.empty()) throw UsageError("command line: no command is given; see foretoken --help");
  if (command == nullptr)
    throw UsageError("command line: {}", with_help(unknown_flag(app, arguments).value_or(what), "foretoken"));
  const std::string name = command->get_name();
  const auto first = std::find(arguments.begin(), arguments.end(), name) + 1;
  throw UsageError(
      "{}: {}", name,
      with_help(unknown_flag(*command, {first, arguments.end()}).value_or(what), "foretoken " + name));
}

}  // namespace

Command parse_command_line(const std::vector<std::string>& arguments) {
  TokenizeOptions tokenize_arguments;
  TrainFlags train_flags;
  EvaluateArguments evaluate_arguments;
  GenerateFlags generate_flags;
  InspectArguments inspect_arguments;
  StudyArguments study_arguments;
  ReportArguments report_arguments;
  RunArguments run_arguments;
  DoctorArguments doctor_arguments;
  PlanFlags plan_flags;

  CLI::App app("Foretoken trains language models that predict several tokens ahead.", "foretoken");
  app.set_version_flag("--version", "foretoken " FORETOKEN_VERSION);
  app.require_subcommand(1);
  app.formatter(std::make_shared<HelpFormatter>());  // commands inherit it
  app.footer(
      "foretoken COMMAND --help describes the arguments of a command.\n\nExample:\n  foretoken train --help");
  const CLI::App* tokenize = add_tokenize(app, tokenize_arguments);
  const CLI::App* train = add_train(app, train_flags);
  const CLI::App* evaluate = add_evaluate(app, evaluate_arguments);
  const CLI::App* generate = add_generate(app, generate_flags);
  const CLI::App* study = add_study(app, study_arguments);
  const CLI::App* run = add_run(app, run_arguments);
  const CLI::App* doctor = add_doctor(app, doctor_arguments);
  const CLI::App* report = add_report(app, report_arguments);
  const CLI::App* plan = add_plan(app, plan_flags);
  add_inspect(app, inspect_arguments);
  name_values(app);
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
    refuse(app, chosen(), arguments, error.what());
  }
  if (chosen() == tokenize) return tokenize_arguments;
  if (chosen() == train) return finish_train(train_flags);
  if (chosen() == evaluate) return finish_evaluate(evaluate_arguments);
  if (chosen() == generate) return finish_generate(generate_flags);
  if (chosen() == study) return study_arguments;
  if (chosen() == report) return report_arguments;
  if (chosen() == run) return finish_run(run_arguments);
  if (chosen() == plan) return finish_plan(plan_flags);
  if (chosen() == doctor) return finish_doctor(doctor_arguments);
  return inspect_arguments;
}

}  // namespace foretoken

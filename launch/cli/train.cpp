#include <memory>
#include <utility>

#include "launch/cli/flags.h"
#include "launch/config/config_loader.h"
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

Command finish(const TrainFlags& flags) {
  if (flags.arguments.auto_resume && flags.arguments.run_directory.empty())
    throw UsageError("train: --auto-resume needs --run-directory; see foretoken train --help");
  if (flags.arguments.allow_other_data && flags.arguments.resume.empty() && !flags.arguments.auto_resume)
    throw UsageError("train: --allow-other-data needs --resume or --auto-resume; see foretoken train --help");
  if (flags.list_options) return PrintText{option_markdown()};
  Config config = resolve_config(flags.arguments, likely_resume(flags.arguments));
  if (flags.print_config) return PrintText{to_toml(config)};
  return TrainCommand{std::move(config), flags.arguments};
}

}  // namespace

CommandFlags add_train(CLI::App& app) {
  const auto parsed = std::make_shared<TrainFlags>();
  TrainFlags& into = *parsed;
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
  return {command, [parsed] { return finish(*parsed); }};
}

}  // namespace foretoken

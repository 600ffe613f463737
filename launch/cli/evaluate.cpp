#include <memory>

#include "launch/cli/flags.h"
#include "launch/config/config_loader.h"
#include "launch/config/number_flag.h"

namespace foretoken {

namespace {

Command finish(const EvaluateArguments& arguments) {
  Config scratch;  // reports a misspelt key before any file is read
  apply_sets(scratch, arguments.sets);
  return arguments;
}

}  // namespace

CommandFlags add_evaluate(CLI::App& app) {
  const auto parsed = std::make_shared<EvaluateArguments>();
  EvaluateArguments& into = *parsed;
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
  return {command, [parsed] { return finish(*parsed); }};
}

}  // namespace foretoken

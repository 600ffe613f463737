#include <memory>

#include "launch/cli/flags.h"

namespace foretoken {

CommandFlags add_inspect(CLI::App& app) {
  const auto parsed = std::make_shared<InspectArguments>();
  InspectArguments& into = *parsed;
  CLI::App* command = app.add_subcommand("inspect", "Show what a run, checkpoint or token dataset contains");
  command->add_option("PATH", into.path, "run (its newest checkpoint), checkpoint or token dataset")
      ->required();
  command->add_flag("--verify", into.verify, "read every byte and check all digests");
  command->add_flag("--flight", into.flight,
                    "show which rank the others waited for when a run ended with code 5");
  command->footer(
      "Example:\n  foretoken inspect runs/first --verify\n  foretoken inspect runs/first --flight");
  return {command, [parsed] { return *parsed; }};
}

}  // namespace foretoken

#include <memory>

#include "launch/cli/flags.h"

namespace foretoken {

CommandFlags add_report(CLI::App& app) {
  const auto parsed = std::make_shared<ReportArguments>();
  ReportArguments& into = *parsed;
  CLI::App* command = app.add_subcommand("report", "Show what runs have reported on one page");
  command->add_option("RUN", into.run, "folder of a run, or one of its checkpoints")->required();
  command->add_option("--compare", into.compare, "further runs, drawn into the same figures");
  command->add_option("-o,--output", into.output, "the page to write (HTML, without external parts)")
      ->required();
  command->footer(
      "The page shows losses by depth, learning rate, gradient norm, acceptance, speed, memory, shares of\n"
      "the time, and the timeline of a step that train.trace_step traced beside the simulated one.\n"
      "\nExample:\n  foretoken report runs/a --compare runs/b -o report.html");
  return {command, [parsed] { return *parsed; }};
}

}  // namespace foretoken

#include <memory>
#include <utility>

#include "launch/cli/flags.h"
#include "launch/config/config_loader.h"

namespace foretoken {

namespace {

Command finish(const DoctorArguments& arguments) {
  Config config;
  if (!arguments.config_path.empty()) apply_toml_file(config, arguments.config_path);
  apply_sets(config, arguments.sets);
  return DoctorCommand{std::move(config), arguments};
}

}  // namespace

CommandFlags add_doctor(CLI::App& app) {
  const auto parsed = std::make_shared<DoctorArguments>();
  DoctorArguments& into = *parsed;
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
  return {command, [parsed] { return finish(*parsed); }};
}

}  // namespace foretoken

#include <memory>

#include "launch/cli/flags.h"
#include "launch/config/config_loader.h"
#include "launch/config/number_flag.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

struct PlanFlags {
  PlanArguments arguments;
  std::string ranks;
};

Command finish(const PlanFlags& flags) {
  PlanCommand command{.config = {}, .arguments = flags.arguments};
  const PlanArguments& arguments = flags.arguments;
  if (arguments.measure && (arguments.output.empty() || !flags.ranks.empty()))
    throw UsageError("plan: --measure needs -o FILE, and no --gpus; see foretoken plan --help");
  if (!arguments.measure && !arguments.output.empty())
    throw UsageError("plan: -o is the output of --measure; see foretoken plan --help");
  if (!arguments.measure) command.arguments.ranks = rank_counts(flags.ranks);
  apply_toml_file(command.config, flags.arguments.config_path);
  apply_sets(command.config, flags.arguments.sets);
  return command;
}

}  // namespace

CommandFlags add_plan(CLI::App& app) {
  const auto parsed = std::make_shared<PlanFlags>();
  PlanFlags& flags = *parsed;
  PlanArguments& into = flags.arguments;
  CLI::App* command =
      app.add_subcommand("plan", "Compare the layouts of a configuration: memory, step time, cost");
  command->add_option("CONFIG", into.config_path, "configuration file (TOML)")->required();
  command->add_option("--gpus", flags.ranks, "numbers of devices, with one rank each, such as 8,64,2048")
      ->type_name("N,N,...");
  command
      ->add_option("--gpu", into.device,
                   "h100, h200 or cpu; default: the profile's, else cpu if run.device is cpu, else h100")
      ->type_name("NAME");
  command
      ->add_option("--memory", into.memory,
                   "memory of one device, such as 80GiB; default: the device's; for cpu no limit")
      ->type_name("SIZE");
  add_texts(*command, "--profile", into.profiles,
            "measured times (--measure) or links (foretoken doctor --save); may be repeated");
  command->add_flag("--measure", into.measure, "measure this device for the shapes of CONFIG, write -o");
  command->add_option("-o", into.output, "profile that --measure writes")->type_name("FILE");
  add_number(*command, "--per-node", into.per_node, {1, 1 << 20}, "ranks of a node", true);
  add_number(*command, "--top", into.top, {1, 1000}, "layouts to show", true);
  command->add_flag("--json", into.json, "print JSON instead of tables");
  add_texts(*command, "--set", into.sets,
            "section.key=value: overrides CONFIG, and the setting is not varied; may be repeated");
  command->footer(
      "Layouts vary parallel.pp, dp, virtual_stages, schedule and sharded_optimizer, train.microbatch and\n"
      "recompute, and mtp.placement; the global batch stays. The command needs no ranks and no such device.\n"
      "\nExamples:\n  foretoken plan train.toml --gpus 8,64 --set train.recompute=selective\n"
      "  foretoken plan train.toml --measure -o profile.json\n"
      "  foretoken plan train.toml --gpus 8,64 --profile profile.json --profile links.json");
  return {command, [parsed] { return finish(*parsed); }};
}

}  // namespace foretoken

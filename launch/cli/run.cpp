#include <memory>
#include <utility>

#include "launch/cli/flags.h"
#include "launch/config/config_loader.h"
#include "launch/config/number_flag.h"

namespace foretoken {

namespace {

Command finish(const RunArguments& arguments) {
  Config config;
  apply_toml_file(config, arguments.config_path);
  apply_sets(config, arguments.sets);
  if (arguments.elastic) config.parallel.elastic = true;
  return SuperviseCommand{std::move(config), arguments};
}

}  // namespace

CommandFlags add_run(CLI::App& app) {
  const auto parsed = std::make_shared<RunArguments>();
  RunArguments& into = *parsed;
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
  return {command, [parsed] { return finish(*parsed); }};
}

}  // namespace foretoken

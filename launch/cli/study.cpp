#include <memory>

#include "launch/cli/flags.h"

namespace foretoken {

CommandFlags add_study(CLI::App& app) {
  const auto parsed = std::make_shared<StudyArguments>();
  StudyArguments& into = *parsed;
  CLI::App* command =
      app.add_subcommand("study", "Run the points of a sweep one after another and compare them");
  command->add_option("SWEEP", into.sweep, "sweep file (TOML): a configuration and the settings to vary")
      ->required();
  command->add_option(
      "--launcher", into.launcher,
      "command that starts the ranks, overrides the sweep's; {ranks} stands for their number");
  add_texts(*command, "--set", into.sets, "section.key=value: overrides every point; may be repeated");
  command->add_flag(
      "--slurm", into.slurm,
      "submit the points as Slurm job arrays; the same command later collects what has finished");
  command->add_flag("--resubmit", into.resubmit, "with --slurm: submit failed and stopped points again")
      ->needs("--slurm");
  command->add_option("--point", into.point, "run this point only, as the elements of job arrays do")
      ->excludes("--slurm");
  command->footer(
      "The same command continues an interrupted study: points that are done are not run again.\n"
      "\nA sweep file is a configuration file with\n\n"
      "  [study]\n"
      "  base = \"quickstart.toml\"                # a configuration beside this file, applied first\n"
      "  ranks = 2                               # per point, default 1\n"
      "  directory = \"runs/study\"                # output folder, default runs/NAME\n"
      "  launcher = \"mpirun -n {ranks}\"          # default\n"
      "  sbatch = [\"--partition=gpu\"]            # options of the batch files of --slurm\n\n"
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
      "  layout = \"best\"                         # by plan; without it [parallel] and [axes]\n"
      "  projected_ranks = [16, 64]              # planned only; default 2, 4, 8 × the most\n"
      "  device = \"h200\"                         # of the plan, as foretoken plan --gpu\n"
      "  profile = [\"profile.json\"]              # or measured, as foretoken plan --profile\n"
      "  per_node = 8                            # default; ranks of a node in the plan\n"
      "  repeats = 3                             # default; median and spread are reported\n"
      "  warmup_steps = 5                        # default; first steps that are not measured\n\n"
      "  [[scaling.layouts]]                     # instead of layout: an axis of layouts\n"
      "  name = \"interleaved\"\n"
      "  parallel.pp = 2\n"
      "  parallel.virtual_stages = 2\n"
      "  parallel.schedule = \"interleaved_1f1b\"\n"
      "\nExample:\n  foretoken study launch/configs/study_cpu.toml"
      "\n  foretoken study launch/configs/scaling_strong_cpu.toml");
  return {command, [parsed] { return *parsed; }};
}

}  // namespace foretoken

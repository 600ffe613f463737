// Scaling studies as a user runs them: interrupted, with a point that fails, and as Slurm job arrays.

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "tests/support/catch.h"
#include "tests/support/models/training_lab.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;
namespace fs = std::filesystem;

namespace {

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// Whether a line of the file contains all of the parts.
bool has_line(const fs::path& path, const std::vector<std::string>& parts) {
  std::istringstream lines(read(path));
  for (std::string line; std::getline(lines, line);)
    if (std::all_of(parts.begin(), parts.end(),
                    [&](const std::string& part) { return line.find(part) != std::string::npos; }))
      return true;
  UNSCOPED_INFO(read(path));
  return false;
}

std::string study_of(const TemporaryFolder& folder, int steps, const std::string& scaling) {
  program_on(1);  // sets the variables that let mpirun run as root
  small_training(folder);
  folder.write("sweep.toml", fmt::format(R"([study]
base = "train.toml"
directory = "{}"
launcher = "mpirun -n {{ranks}} --oversubscribe --bind-to none"
sbatch = ["--time=00:10:00"]
[train]
steps = {}
[scaling]
mode = "strong"
projected_ranks = []
warmup_steps = 2
{})",
                                         (folder / "study").string(), steps, scaling));
  return fmt::format("{} study {}", program(), (folder / "sweep.toml").string());
}

}  // namespace

TEST_CASE("an interrupted scaling study keeps finished repeats and starts the interrupted one again") {
  const TemporaryFolder folder;
  const std::string command = study_of(folder, 1500, "ranks = [1]\nrepeats = 2\n");
  const fs::path first = folder / "study/ranks=1,repeat=1", second = folder / "study/ranks=1,repeat=2";
  Process process("bash -c '" + command + "; exit $?'");
  REQUIRE(wait_until(
      [&] { return read(second / "run/metrics.jsonl").find("\"step\":20,") != std::string::npos; }));
  const std::vector<pid_t> studies = process.children("foretoken");
  REQUIRE(studies.size() == 1);
  kill(studies.front(), SIGTERM);
  const Outcome stopped = process.wait();
  INFO(stopped.output);
  CHECK(stopped.code == 75);
  CHECK(has_line(folder / "study/scaling.csv", {"ranks=1,", "1 of 2 done"}));
  CHECK_FALSE(fs::exists(first / "run/checkpoints"));
  const std::string outcome = read(first / "outcome.json");

  const Outcome whole = run(command);
  INFO(whole.output);
  CHECK(whole.code == 0);
  CHECK_THAT(whole.output, contains("repeat=1: already done") && contains("repeat=2: starts on 1 rank"));
  CHECK(read(first / "outcome.json") == outcome);
  CHECK(TrainingLab::losses((second / "run").string()).size() == 1500);
  const std::string metrics = read(second / "run/metrics.jsonl");
  CHECK(metrics.find("\"step\":1,") < metrics.find("\"step\":2,"));
  CHECK(metrics.find("\"kind\":\"end\"") == metrics.rfind("\"kind\":\"end\""));  // of one launch
  CHECK(has_line(folder / "study/scaling.csv", {"ranks=1,", ",2,2,done,"}));
}

TEST_CASE("a scaling study as job arrays is submitted, collected, and reports what failed") {
  const TemporaryFolder folder;
  const std::string command = study_of(folder, 6, R"(ranks = [1, 2]
repeats = 1
[[scaling.layouts]]
name = "one"
[[scaling.layouts]]
name = "no data"
data.path = "missing.h5"
)");
  const fs::path slurm = folder / "slurm";
  const std::string bin = (slurm / "bin").string();
  const auto program_text = [&](const std::string& name, const std::string& text) {
    const fs::path path =
        folder.write("slurm/bin/" + name, "#!/bin/bash\nhere=" + slurm.string() + "\n" + text);
    fs::permissions(path, fs::perms::owner_all);
  };
  program_text("sbatch", R"(echo "$@" >> $here/calls
grep -q '^#SBATCH --time=00:10:00' "${@: -1}" || { echo "sbatch: error: no time" >&2; exit 1; }
wc -l < $here/calls
)");
  program_text("squeue", "cat $here/queue\n");
  program_text("sacct", "cat $here/accounts\n");
  const std::string in_slurm = "env PATH=" + bin + ":$PATH " + command + " --slurm";
  const auto element = [&](const char* array, int index) {
    return run(
        fmt::format("env SLURM_ARRAY_TASK_ID={} bash {}", index, (folder / "study/slurm" / array).string()));
  };
  const fs::path csv = folder / "study/study.csv";
  folder.write("slurm/queue", "");
  folder.write("slurm/accounts", "");

  const Outcome absent = run("env PATH=" + slurm.string() + " " + command + " --slurm");
  CHECK(absent.code == 2);
  CHECK_THAT(absent.output, contains("study: --slurm needs Slurm's program sbatch, which is not in PATH"));

  const Outcome submitted = run(in_slurm);
  INFO(submitted.output);
  CHECK(submitted.code == 75);
  CHECK_THAT(submitted.output, contains("2 points on 1 rank as job 1") &&
                                   contains("2 points on 2 ranks as job 2") &&
                                   contains("0 of 4 points, 4 pending"));
  CHECK(has_line(csv, {"ranks=2,layout=one", "pending"}));
  const Outcome local = run(command);
  CHECK(local.code == 2);
  CHECK_THAT(local.output, contains("was submitted to Slurm as job 1_1: collect it with --slurm"));

  const Outcome good = element("ranks_2_1.sbatch", 1);
  INFO(good.output);
  CHECK(good.code == 0);
  CHECK_THAT(good.output, contains("ranks=2,layout=one: done in"));
  CHECK(element("ranks_2_1.sbatch", 2).code == 3);  // no data
  folder.write("slurm/queue", "7_1 RUNNING\n1_1 RUNNING\n1_2 PENDING\n");
  const Outcome part = run(in_slurm);
  INFO(part.output);
  CHECK(part.code == 75);
  CHECK_THAT(part.output, !contains("submitted ") && contains("1 of 4 points, 1 running, 1 pending"));
  CHECK(has_line(csv, {"ranks=2,layout=one", ",done,", ",2_1,", "mpirun -n 2 --oversubscribe"}));
  CHECK(has_line(csv, {"ranks=2,layout=no data", ",failed (3),", "missing.h5"}));
  CHECK(has_line(csv, {"ranks=1,layout=one", ",running,"}));

  folder.write("slurm/queue", "");
  folder.write("slurm/accounts", "1_1|TIMEOUT\n1_2|CANCELLED by 1000\n");
  folder.write("study/slurm/ranks_1_1-1_1.out",
               "slurmstepd: error: *** JOB 3 ON a CANCELLED DUE TO TIME LIMIT ***\n");
  const Outcome lost = run(in_slurm);
  INFO(lost.output);
  CHECK(lost.code == 5);
  CHECK_THAT(lost.output, contains("--resubmit submits failed points again") && !contains("submitted "));
  CHECK(has_line(
      csv, {"ranks=1,layout=one", ",failed (timeout),", "job 1_1 ended without a result", "TIME LIMIT"}));
  CHECK(has_line(folder / "study/scaling.csv", {"ranks=1,layout=no data", ",failed (cancelled),"}));

  const Outcome again = run(in_slurm + " --resubmit");
  INFO(again.output);
  CHECK(again.code == 75);
  CHECK_THAT(again.output, contains("2 points on 1 rank as job 3") &&
                               contains("1 point on 2 ranks as job 4") &&
                               contains("1 of 4 points, 3 pending"));
  folder.write("slurm/bin/squeue", "#!/bin/bash\necho 'squeue: error: no controller' >&2; exit 1\n");
  const Outcome mute = run(in_slurm);
  CHECK(mute.code == 5);
  CHECK_THAT(mute.output, contains("squeue ended with code 1: squeue: error: no controller"));
}

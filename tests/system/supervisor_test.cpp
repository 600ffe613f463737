// foretoken run if ranks are killed or the run receives a stop signal.

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include <fmt/format.h>

#include "io/checkpoint/lineage.h"
#include "tests/support/catch.h"
#include "tests/support/models/training_lab.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

constexpr const char* settings = " --set parallel.pp=2 --set checkpoint.every=1";

std::string supervised(const TemporaryFolder& folder, const std::string& run) {
  std::string config = small_training(folder).substr(std::string("train ").size());
  return fmt::format("{} run {} --run-directory {} -n 2{}", program(), config, run, settings);
}

std::size_t steps_in(const std::string& run) {
  std::ifstream file(run + "/metrics.jsonl");
  std::size_t steps = 0;
  for (std::string line; std::getline(file, line);) steps += line.starts_with(R"({"kind":"step",)");
  return steps;
}

/// Pids of the ranks of a run, ascending. mpirun is excluded: it has the program as an argument, ranks have
/// it as their executable.
std::vector<pid_t> ranks_of(const std::string& run) {
  std::vector<pid_t> ranks;
  for (const pid_t pid : processes_with_word(run)) {
    std::error_code error;
    const auto words = fmt::format("/proc/{}", pid);
    const auto exe = std::filesystem::read_symlink(words + "/exe", error);
    std::ifstream file(words + "/cmdline", std::ios::binary);
    const std::string line{std::istreambuf_iterator<char>(file), {}};
    if (!error && exe.string() == program() && line.find("--auto-resume") != std::string::npos)
      ranks.push_back(pid);
  }
  return ranks;
}

void check_same_weights(const std::string& run, const std::string& expected) {
  for (const char* kind : {"model", "exp_avg", "exp_avg_sq"})
    CHECK(tensor_mismatch(TrainingLab::checkpoint(run, 40), TrainingLab::checkpoint(expected, 40), kind, 0,
                          0) == "");
  CHECK(loss_mismatch(run, expected, 0) == "");
}

}  // namespace

TEST_CASE("a supervised run whose ranks are killed ends with the same bits as an undisturbed run") {
  const TemporaryFolder folder;
  const std::string whole = (folder / "whole").string(), killed = (folder / "killed").string();
  REQUIRE(run(program_on(2) + " " + small_training(folder) + settings + " --run-directory " + whole).code ==
          0);

  Process supervisor(supervised(folder, killed));
  for (const std::size_t until : {8, 20}) {
    REQUIRE(wait_until([&] { return steps_in(killed) >= until || !supervisor.running(); }));
    const std::vector<pid_t> ranks = ranks_of(killed);
    REQUIRE(ranks.size() == 2);
    kill(ranks[until % 3 == 2 ? 1 : 0], SIGKILL);
    REQUIRE(wait_until([&] { return ranks_of(killed) != ranks || !supervisor.running(); }));
  }
  const Outcome outcome = supervisor.wait();
  INFO(outcome.output);
  CHECK(outcome.code == 0);
  CHECK_THAT(outcome.output,
             contains("attempt    1 ended with code 137") && contains("attempt    3 ended with code 0"));
  CHECK(std::filesystem::exists(killed + "/attempts/0003.log"));
  CHECK(ranks_of(killed).empty());
  check_same_weights(killed, whole);
}

TEST_CASE("a signal to the supervisor ends it with 75 and a checkpoint, and the same command continues") {
  const TemporaryFolder folder;
  const std::string whole = (folder / "whole").string(), path = (folder / "run").string();
  REQUIRE(run(program_on(2) + " " + small_training(folder) + settings + " --run-directory " + whole).code ==
          0);

  std::size_t until = 4;
  for (const int signal : {SIGUSR1, SIGTERM}) {
    Process supervisor(supervised(folder, path));
    REQUIRE(wait_until([&] { return steps_in(path) >= until || !supervisor.running(); }));
    kill(supervisor.pid(), signal);
    const Outcome outcome = supervisor.wait();
    INFO(outcome.output);
    CHECK(outcome.code == 75);
    CHECK_THAT(outcome.output, contains("stopped    the same command resumes it"));
    CHECK(ranks_of(path).empty());
    until = steps_in(path) + 4;
  }
  CHECK(run(supervised(folder, path)).code == 0);
  check_same_weights(path, whole);
}

TEST_CASE("a signal that arrives before the ranks are ready takes effect once they are ready") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  Process supervisor(supervised(folder, path) +
                     " --launcher 'sh -c \"sleep 1; exec mpirun \\\"\\$@\\\"\" mpirun'");
  REQUIRE(wait_until(
      [&] { return std::filesystem::exists(path + "/attempts/0001.log") || !supervisor.running(); }));
  kill(supervisor.pid(), SIGUSR1);
  const Outcome outcome = supervisor.wait();
  INFO(outcome.output);
  CHECK(outcome.code == 75);
  CHECK_FALSE(list_checkpoints(path + "/checkpoints").empty());
}

TEST_CASE("the supervisor stops after attempts that wrote no newer checkpoint") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  const Outcome outcome =
      run(supervised(folder, path) + " --max-restarts 1 --launcher 'sh -c \"echo no network; exit 5\"'");
  INFO(outcome.output);
  CHECK(outcome.code == 5);
  CHECK_THAT(outcome.output,
             contains("no network") && contains("1 restart in a row without a newer checkpoint"));
  CHECK(std::filesystem::exists(path + "/attempts/0002.log"));
  CHECK_FALSE(std::filesystem::exists(path + "/attempts/0003.log"));
}

TEST_CASE("three ranks resume an elastic run of pp 2 × dp 2 and train the same model") {
  const TemporaryFolder folder;
  const std::string whole = (folder / "whole").string(), path = (folder / "run").string();
  const std::string train = small_training(folder) + " --set parallel.pp=2 --run-directory ";
  REQUIRE(run(program_on(4) + " " + train + whole).code == 0);
  REQUIRE(run(program_on(4) + " " + train + path + " --stop-after 10").code == 75);

  const Outcome refused = run(program_on(3) + " train --resume " + path);
  CHECK(refused.code == 2);
  CHECK_THAT(refused.output, contains("pp 2 does not divide the world of 3 ranks") &&
                                 contains("; --auto-layout would choose pp 3 × dp 1"));
  const Outcome chosen = run(program_on(3) + " train --resume " + path + " --auto-layout --stop-after 20");
  INFO(chosen.output);
  CHECK(chosen.code == 75);
  CHECK_THAT(chosen.output, contains("the ranks use pp 3 × dp 1"));

  const std::string config = small_training(folder).substr(std::string("train ").size());
  const Outcome elastic = run(fmt::format("{} run {} --run-directory {} -n 1 --elastic --set parallel.pp=2",
                                          program(), config, path));
  INFO(elastic.output);
  CHECK(elastic.code == 0);
  CHECK_THAT(elastic.output, contains("1 of 1 available ranks use pp 1 × dp 1"));
  CHECK(tensor_mismatch(TrainingLab::checkpoint(path, 40), TrainingLab::checkpoint(whole, 40), "model", 1e-4,
                        1e-4) == "");
}

TEST_CASE("ranks start on the reachable hosts of a hostfile, and fewer ranks only for an elastic run") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  const auto hosts = folder.write("hosts", "localhost slots=2\ngone.invalid slots=2\n");
  const std::string config = small_training(folder).substr(std::string("train ").size());
  const std::string command = fmt::format(
      "env OMPI_MCA_plm_rsh_agent=false {} run {} --run-directory {} -n 4 --hostfile {} "
      "--max-restarts 0 --set parallel.pp=2 --set parallel.dp=2",
      program(), config, path, hosts.string());
  const Outcome refused = run(command);
  INFO(refused.output);
  CHECK(refused.code == 5);
  CHECK_THAT(refused.output, contains("2 slots for 4 ranks: too few"));
  const Outcome elastic = run(command + " --elastic");
  INFO(elastic.output);
  CHECK(elastic.code == 0);
  CHECK_THAT(elastic.output, contains("1 of 2 are available: localhost:2") && contains("use pp 2 × dp 1"));
}

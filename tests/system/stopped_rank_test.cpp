// If a rank is stopped but does not end, the other ranks end the job within their limit and report the rank
// that they waited for.

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// Pid of the rank, found by the launcher's variable in its environment; 0 if the rank has not started yet.
pid_t process_of(const Process& job, int rank) {
  for (const pid_t pid : job.children("foretoken")) {
    std::ifstream file(fmt::format("/proc/{}/environ", pid), std::ios::binary);
    const std::string environment{std::istreambuf_iterator<char>(file), {}};
    const std::string wanted = fmt::format("OMPI_COMM_WORLD_RANK={}", rank) + '\0';
    if (environment.find(wanted) != std::string::npos) return pid;
  }
  return 0;
}

bool has_steps(const std::string& run) {
  std::ifstream file(run + "/metrics.jsonl");
  return std::string(std::istreambuf_iterator<char>(file), {}).find("\"kind\":\"step\"") != std::string::npos;
}

}  // namespace

TEST_CASE("the lowest running rank names a stopped rank and its process") {
  const TemporaryFolder folder;
  const std::string train = program_on(4) + " " + small_training(folder) +
                            " --set parallel.pp=2 --set parallel.dp=2 --set train.steps=1000000"
                            " --set parallel.timeout_seconds=2 --run-directory ";
  for (const int stopped : {0, 3}) {
    const std::string run_folder = (folder / fmt::format("run{}", stopped)).string();
    Process job(train + run_folder);
    REQUIRE(wait_until([&] { return has_steps(run_folder) || !job.running(); }));
    const pid_t pid = process_of(job, stopped);
    REQUIRE(pid > 0);
    REQUIRE(kill(pid, SIGSTOP) == 0);
    const Outcome outcome = job.wait();
    INFO(outcome.output);
    CHECK(outcome.code == 5);
    const std::string name = fmt::format("rank {} (pp{} dp{}, host ", stopped, stopped % 2, stopped / 2);
    CHECK_THAT(outcome.output, contains(stopped == 0 ? "[rank 1 " : "[rank 0 ") &&
                                   contains(fmt::format("pid {})", pid)) &&
                                   contains("whose process is stopped") &&
                                   contains("all other ranks wait for it; flight records: "));
    CHECK(wait_until([&] { return kill(pid, 0) != 0; }, std::chrono::seconds(10)));  // no process remains

    const Outcome inspected = run(program() + " inspect --flight " + run_folder);
    INFO(inspected.output);
    CHECK(inspected.code == 0);
    CHECK_THAT(inspected.output, contains("records      3 of 4 ranks") &&
                                     contains(fmt::format("rank {:<6} no record", stopped)) &&
                                     contains(fmt::format("rank {} (", stopped)));
  }
}

TEST_CASE("inspect --flight of a run without records is an error that says so") {
  const TemporaryFolder folder;
  const Outcome outcome = run(program() + " inspect --flight " + (folder / "nothing").string());
  CHECK(outcome.code == 3);
  CHECK_THAT(outcome.output, contains("no flight records"));
}

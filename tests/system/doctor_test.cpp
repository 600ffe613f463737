// foretoken doctor as a user runs it.
#include <sched.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tests/support/catch.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

std::vector<int> own_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  REQUIRE(sched_getaffinity(0, sizeof set, &set) == 0);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  return cores;
}

}  // namespace

TEST_CASE("doctor checks a rank and its run folder, prints JSON and saves the rates") {
  const TemporaryFolder folder;
  const std::string saved = (folder / "machine.json").string();
  const Outcome outcome = run(
      fmt::format("{} doctor --json --run {} --save {}", program(), (folder / "runs/first").string(), saved));
  INFO(outcome.output);
  REQUIRE(outcome.code == 0);
  const nlohmann::json report = nlohmann::json::parse(outcome.output);
  CHECK(report["exit_code"] == 0);
  CHECK(report["ranks"][0]["device"]["matrix_rate"] > 1e6);
  CHECK(report["ranks"][0]["folder"]["path"] == folder.path().string());
  std::ifstream file(saved);
  CHECK(nlohmann::json::parse(file)["matrix_rate"] == report["ranks"][0]["device"]["matrix_rate"]);
  CHECK(files_in(folder.path()) == 1);  // machine.json alone
}

TEST_CASE("doctor ends with code 5 and one line if the run folder cannot be written") {
  const Outcome outcome = run(program() + " doctor --run /proc/first");
  INFO(outcome.output);
  CHECK(outcome.code == 5);
  CHECK_THAT(outcome.output,
             contains("\nWRONG    run folder: rank 0: writing to /proc failed: ") && contains("\n1 wrong, "));
}

TEST_CASE("doctor refuses a layout that does not fit the ranks") {
  const TemporaryFolder folder;
  small_training(folder);
  const Outcome outcome = run(fmt::format("{} doctor {} --set parallel.pp=2 --set parallel.dp=1", program(),
                                          (folder / "train.toml").string()));
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.output, contains("pp 2 × dp 1"));
}

TEST_CASE("doctor names the rank whose core other programs use") {
  const std::vector<int> cores = own_cores();
  REQUIRE(cores.size() >= 2);
  const Process others(fmt::format(
      R"(bash -c "for i in 1 2; do taskset -c {} sh -c 'while :; do :; done' & done; wait")", cores[1]));
  const std::string all = program_on(1), mpirun = all.substr(0, all.size() - program().size());
  const Outcome outcome = run(fmt::format("{}taskset -c {} {} doctor : -n 1 taskset -c {} {} doctor", mpirun,
                                          cores[0], program(), cores[1], program()));
  INFO(outcome.output);
  CHECK(outcome.code == 5);
  CHECK_THAT(outcome.output,
             contains("WRONG    matrix rate, f32: rank 1 is ") && contains(" % slower than the median: "));
}

// Runs that are killed, stopped or run out of disk space can be resumed.

#include <csignal>
#include <fstream>

#include <fmt/format.h>

#include "io/checkpoint/lineage.h"
#include "tests/support/catch.h"
#include "tests/support/models/training_lab.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

constexpr const char* layout =
    " --set parallel.pp=2 --set parallel.dp=2 --set parallel.sharded_optimizer=true";

std::size_t steps_in(const std::string& run) {
  std::ifstream file(run + "/metrics.jsonl");
  std::size_t steps = 0;
  for (std::string line; std::getline(file, line);) steps += line.starts_with(R"({"kind":"step",)");
  return steps;
}

void check_same_bits(const std::string& run, const std::string& expected, std::int64_t step) {
  for (const char* kind : {"model", "exp_avg", "exp_avg_sq"})
    CHECK(tensor_mismatch(TrainingLab::checkpoint(run, step), TrainingLab::checkpoint(expected, step), kind,
                          0, 0) == "");
  CHECK(loss_mismatch(run, expected, 0) == "");
}

}  // namespace

TEST_CASE("a run whose ranks are killed at any time resumes and ends with the same bits") {
  const TemporaryFolder folder;
  // Every step saves, so a checkpoint is being written almost all the time.
  const std::string train =
      program_on(4) + " " + small_training(folder) + layout + " --set checkpoint.every=1";
  const std::string whole = (folder / "whole").string(), killed = (folder / "killed").string();
  REQUIRE(run(train + " --run-directory " + whole).code == 0);

  for (int attempt = 0; attempt < 4; ++attempt) {
    const bool first = attempt == 0;
    Process training(first ? train + " --run-directory " + killed
                           : program_on(4) + " train --resume " + killed);
    const std::size_t until = static_cast<std::size_t>(6 * (attempt + 1));
    REQUIRE(wait_until([&] { return steps_in(killed) >= until || !training.running(); }));
    const std::vector<pid_t> ranks = training.children("foretoken");
    REQUIRE(ranks.size() == 4);
    kill(ranks[static_cast<std::size_t>(attempt)], SIGKILL);
    CHECK(training.wait().code != 0);
    INFO("after the kill of rank " << attempt);
    CHECK(run(program() + " inspect --verify " + killed).code == 0);
  }
  const Outcome last = run(program_on(4) + " train --resume " + killed);
  INFO(last.output);
  REQUIRE(last.code == 0);
  check_same_bits(killed, whole, 40);
}

TEST_CASE("SIGUSR1 to any one rank stops the run with a checkpoint and code 75, and it can be resumed") {
  const TemporaryFolder folder;
  const std::string train =
      program_on(2) + " " + small_training(folder) + " --set train.steps=4000 --set parallel.pp=2";
  const std::string path = (folder / "run").string();
  Process training(train + " --run-directory " + path);
  REQUIRE(wait_until([&] { return steps_in(path) >= 3 || !training.running(); }));
  const std::vector<pid_t> ranks = training.children("foretoken");
  REQUIRE(ranks.size() == 2);
  kill(ranks[1], SIGUSR1);
  const Outcome outcome = training.wait();
  INFO(outcome.output);
  CHECK(outcome.code == 75);
  CHECK_THAT(outcome.output, contains("stopped    at step"));
  const auto step = Checkpoint::open(checkpoints_at(path).front()).info().step;
  CHECK(step == static_cast<std::int64_t>(steps_in(path)));
  CHECK(run(fmt::format("{} train --resume {} --set train.steps={}", program_on(2), path, step + 2)).code ==
        0);
}

TEST_CASE("a full disk is an error that names the cause, and the old checkpoint stays") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  const std::string train = program() + " " + small_training(folder);
  Process training(train + " --set train.steps=4000 --set checkpoint.every=3 --run-directory " + path);
  REQUIRE(wait_until(
      [&] { return std::filesystem::exists(path + "/checkpoints/step_00000003") || !training.running(); }));
  // From now on no file may exceed 64 KiB: writes fail as on a full disk.
  training.limit_file_size(64 << 10);
  const Outcome full = training.wait();
  INFO(full.output);
  CHECK(full.code == 3);
  CHECK_THAT(full.output, contains("shard_00000.h5") && contains("no space"));
  const auto step = Checkpoint::open(checkpoints_at(path).front()).info().step;
  CHECK(step >= 3);
  CHECK(run(program() + " inspect --verify " + path).code == 0);
  CHECK(run(program() + " train --resume " + path + fmt::format(" --set train.steps={}", step + 2)).code ==
        0);
}

TEST_CASE(
    "a run that ends because numbers are not finite names the checkpoint to resume from, if there is one") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  const std::string train = program() + " " + small_training(folder) + " --set checkpoint.every=0";
  const std::string broken = " --set train.steps=12 --set optimizer.lr=1e38 --set train.skip_limit=1";
  const Outcome fresh = run(train + broken + " --run-directory " + (folder / "fresh").string());
  INFO(fresh.output);
  CHECK(fresh.code == 4);
  CHECK_THAT(fresh.output, contains("stopped    after step ") && contains("train.skip_limit is 1") &&
                               contains("; no checkpoint was written"));

  REQUIRE(run(train + " --stop-after 2 --run-directory " + path).code == 75);
  const Outcome resumed = run(program() + " train --resume " + path + broken);
  INFO(resumed.output);
  CHECK(resumed.code == 4);
  CHECK_THAT(resumed.output, contains("stopped    after step ") && contains("resume from is step_00000002"));
}

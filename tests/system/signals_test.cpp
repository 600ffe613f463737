// Requests to stop: the signals, the processes that receive them, and their timing.

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "io/checkpoint/lineage.h"
#include "launch/supervisor/process_tree.h"
#include "tests/support/catch.h"
#include "tests/support/models/training_lab.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

std::string text_of(const std::string& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

bool has_step(const std::string& run, int step) {
  return text_of(run + "/metrics.jsonl").find(fmt::format("\"step\":{},", step)) != std::string::npos;
}

std::int64_t newest_step(const std::string& run) {
  return Checkpoint::open(checkpoints_at(run).front()).info().step;
}

}  // namespace

TEST_CASE(
    "every stop signal to a run of one rank, also a repeated one, ends it with a checkpoint and code 75") {
  const TemporaryFolder folder;
  const std::string train = program() + " " + small_training(folder) + " --set train.steps=100000";
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) {
    INFO("signal " << signal);
    const std::string path = (folder / fmt::format("run{}", signal)).string();
    Process training(train + " --run-directory " + path);
    REQUIRE(wait_until([&] { return has_step(path, 3) || !training.running(); }));
    training.signal(signal);
    training.signal(signal);
    const Outcome outcome = training.wait();
    INFO(outcome.output);
    CHECK(outcome.code == 75);
    CHECK_THAT(outcome.output, contains("stop requested (SIG") && contains("then a checkpoint"));
    CHECK(newest_step(path) >= 3);
  }
}

TEST_CASE(
    "a signal that arrives while ranks start ends the run before its first step, and it can be resumed") {
  const TemporaryFolder folder;
  const std::string train = small_training(folder);
  const std::string path = (folder / "run").string();
  Process training(program_on(2) + " " + train + " --run-directory " + path);
  std::vector<pid_t> ranks;
  REQUIRE(wait_until([&] {
    ranks = training.children("foretoken");
    return !ranks.empty() && catches_signal(ranks.front(), SIGUSR1);
  }));
  kill(ranks.front(), SIGUSR1);
  const Outcome outcome = training.wait();
  INFO(outcome.output);
  CHECK(outcome.code == 75);
  CHECK_THAT(outcome.output, contains("stop requested (SIGUSR1"));
  CHECK(newest_step(path) < 40);
  CHECK(run(program_on(2) + " train --resume " + path).code == 0);
  CHECK(has_step(path, 40));
}

TEST_CASE("SIGTERM to mpirun leaves a checkpoint of the completed steps") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  Process training(program_on(2) + " " + small_training(folder) +
                   " --set train.steps=100000 --set parallel.pp=2 --run-directory " + path);
  REQUIRE(wait_until([&] { return has_step(path, 5) || !training.running(); }));
  training.signal(SIGTERM);
  CHECK(training.wait().code != 0);  // mpirun returns its own code, not that of the ranks
  CHECK(newest_step(path) >= 5);
  CHECK_THAT(text_of(path + "/log.txt"),
             contains("stop requested (SIGTERM)") && contains("stopped    at step"));
  CHECK(run(program() + " inspect --verify " + path).code == 0);
}

TEST_CASE("if a step lasts longer than the second that mpirun grants, the state before the step is saved") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  Process training(
      program_on(2) + " " + small_training(folder) +
      " --set train.steps=1000 --set parallel.pp=2 --set train.global_batch=4096 --set mtp.depths=1 "
      "--run-directory " +
      path);
  REQUIRE(wait_until([&] { return has_step(path, 2) || !training.running(); }));
  training.signal(SIGTERM);
  training.wait();
  CHECK(newest_step(path) >= 2);
  CHECK(run(program() + " inspect --verify " + path).code == 0);
}

TEST_CASE("a save slower than parallel.timeout_seconds does not end the run") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  std::string train = program_on(2);
  train.replace(train.find(" -n "), 1, slow_disk(1, 900));
  const Outcome outcome =
      run(train + " " + small_training(folder) +
          " --set train.steps=4 --set checkpoint.every=2 --set parallel.timeout_seconds=1 "
          "--set parallel.pp=2 --run-directory " +
          path);
  INFO(outcome.output);
  CHECK(outcome.code == 0);
  CHECK(newest_step(path) == 4);
}

TEST_CASE("a console whose reader has stopped delays neither steps nor a stop") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  // The pipe holds 64 KiB, some 400 lines, and no process reads it.
  Process training(fmt::format(
      "{} {} --set train.steps=100000 --set run.log_every=1 --run-directory {} > >(exec sleep 100)",
      program(), small_training(folder), path));
  REQUIRE(wait_until([&] { return has_step(path, 1500) || !training.running(); }));
  training.signal(SIGTERM);
  CHECK(training.wait().code == 75);
  CHECK(newest_step(path) >= 1500);
  CHECK_THAT(text_of(path + "/log.txt"), contains("stopped    at step"));
}

TEST_CASE("output to a full device or to a closed pipe is an error with code 3") {
  const TemporaryFolder folder;
  program_on(1);  // sets the variables that let the mpirun of a study run as root
  const std::string train = small_training(folder) + " --set train.steps=2";
  const std::string path = (folder / "run").string();
  REQUIRE(run(program() + " " + train + " --run-directory " + path).code == 0);
  const std::string data = (folder / "data.h5").string();
  const std::string sweep = folder
                                .write("sweep.toml", "[study]\nbase = \"train.toml\"\ndirectory = \"" +
                                                         (folder / "study").string() +
                                                         "\"\n[train]\nsteps = 3\n[axes]\nmtp.depths = [1]\n")
                                .string();
  const std::vector<std::string> commands = {
      "--help",
      "--version",
      "train --help",
      "train --list-options",
      train + " --print-config",
      "inspect " + path,
      "inspect --verify " + path,
      "evaluate --rows 4 --free-running 1 --data " + data + " " + path,
      "generate --max-tokens 4 --prompt line " + path,
      "tokenize " + (folder / "text").string() + " -o " + (folder / "other.h5").string(),
      fmt::format("study --launcher 'mpirun -n {{ranks}} --oversubscribe' {}", sweep)};
  for (const std::string& command : commands) {
    const std::string line = program() + " " + command;
    const std::string gone =
        folder.write("gone.sh", "set -o pipefail; (sleep 0.1; exec " + line + ") | true\n").string();
    for (const std::string& shown : {line + " > /dev/full", "bash " + gone}) {
      INFO(command << ": " << shown);
      const Outcome outcome = run(shown);
      INFO(outcome.output);
      CHECK(outcome.code == 3);
      CHECK_THAT(outcome.output, contains("standard output: cannot be written: "));
    }
  }
}

// A run that returns to an earlier checkpoint, two jobs in one run, and a run that resumes automatically.

#include "io/checkpoint/lineage.h"

#include <csignal>
#include <fstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tests/support/catch.h"
#include "tests/support/models/training_lab.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// The steps of the step lines in metrics.jsonl, in file order.
std::vector<std::int64_t> steps_in(const std::string& run) {
  std::ifstream file(run + "/metrics.jsonl");
  std::vector<std::int64_t> steps;
  for (std::string line; std::getline(file, line);)
    if (const auto json = nlohmann::json::parse(line); json["kind"] == "step") steps.push_back(json["step"]);
  return steps;
}

std::int64_t newest_step(const std::string& run) {
  return Checkpoint::open(checkpoints_at(run).front()).info().step;
}

/// Command of a training run with 12 steps and a checkpoint every 2 steps; non-empty `sets` replace these
/// settings.
std::string one_rank(const TemporaryFolder& folder, const std::string& sets = "") {
  const std::string defaults = " --set train.steps=12 --set checkpoint.every=2 --set checkpoint.keep=10";
  return program() + " " + small_training(folder) + (sets.empty() ? defaults : sets);
}

}  // namespace

TEST_CASE("every command uses the branch of a run that went back, and its metrics match") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  REQUIRE(run(one_rank(folder) + " --run-directory " + path).code == 0);
  const Outcome back =
      run(fmt::format("{} train --resume {}/checkpoints/step_00000004"
                      " --set optimizer.lr=1e-4 --stop-after 6",
                      program(), path));
  INFO(back.output);
  REQUIRE(back.code == 75);
  CHECK_THAT(back.output,
             contains("branch     2: the run goes back to step 4 of branch 1; steps 6 to 12 are set aside"));
  CHECK(newest_step(path) == 6);
  CHECK(steps_in(path) == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6});

  const Outcome inspected = run(program() + " inspect " + path);
  CHECK_THAT(inspected.output,
             contains("branch 1     abandoned after step 4; checkpoints of steps 2, 4, 6, 8, 10, 12"));
  CHECK_THAT(inspected.output,
             contains("branch 2     current, from step 4 of branch 1; checkpoints of steps 6"));
  CHECK_THAT(inspected.output, contains("step         6\n"));
  const std::string abandoned = path + "/checkpoints/abandoned/branch_1/step_00000012";
  CHECK(run(fmt::format("{} inspect --verify {}", program(), abandoned)).code == 0);
  const Outcome evaluated = run(fmt::format("{} evaluate {} --data {} --rows 4 --free-running 0", program(),
                                            path, (folder / "data.h5").string()));
  CHECK_THAT(evaluated.output, contains("at step 6,"));

  const Outcome on = run(program() + " train --resume " + path);
  INFO(on.output);
  REQUIRE(on.code == 0);
  CHECK_THAT(on.output, contains("resume     step 6 of 12"));
  CHECK(steps_in(path).size() == 12);

  // Resumes the abandoned branch: its checkpoints and its lines in metrics.jsonl return.
  const Outcome returned =
      run(fmt::format("{} train --resume {} --set train.steps=13", program(), abandoned));
  INFO(returned.output);
  REQUIRE(returned.code == 0);
  CHECK_THAT(returned.output, contains("goes back to step 12 of branch 1; steps 6 to 12 are set aside"));
  CHECK(steps_in(path).size() == 13);
  std::ifstream metrics(path + "/metrics.jsonl");
  for (std::string line; std::getline(metrics, line);)
    CHECK(nlohmann::json::parse(line).value("branch", 1) != 2);
}

TEST_CASE("a second job in a run is refused immediately, and the lock of a killed process is taken over") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  Process first(one_rank(folder, " --set train.steps=100000 --set checkpoint.every=2") + " --run-directory " +
                path);
  REQUIRE(wait_until([&] { return !steps_in(path).empty() || !first.running(); }));
  for (const char* command : {"train --resume ", "train --auto-resume --run-directory "}) {
    const Outcome second = run(program() + " " + command + path);
    INFO(second.output);
    CHECK(second.code == 2);
    CHECK_THAT(second.output, contains("in use by pid ") && contains(", since 20"));
  }
  CHECK(first.running());
  CHECK(run(program() + " inspect " + path).code == 0);  // readers need no lock
  first.signal(SIGKILL);
  CHECK(first.wait().code != 0);
  const Outcome third = run(fmt::format("{} train --resume {} --set train.steps=5", program(), path));
  INFO(third.output);
  CHECK(third.code == 0);
  CHECK_THAT(third.output, contains("taken over from pid ") && contains("that process has ended"));
}

TEST_CASE("auto-resume starts a run, starts it again if there is no checkpoint, and otherwise resumes") {
  const TemporaryFolder folder;
  const std::string path = (folder / "r_lr[1e-3]").string();
  const std::string at = fmt::format(" --auto-resume --run-directory '{}'", path);
  const std::string command = one_rank(folder) + at;
  Process killed(one_rank(folder, " --set checkpoint.every=1000000 --set train.steps=1000000") + at);
  REQUIRE(wait_until([&] { return steps_in(path).size() > 2 || !killed.running(); }));
  killed.signal(SIGKILL);
  killed.wait();
  folder.write("r_lr[1e-3]/mine", "kept");

  CHECK(run(command + " --stop-after 3").code == 75);
  CHECK(steps_in(path) == std::vector<std::int64_t>{1, 2, 3});
  const Outcome on = run(command);
  INFO(on.output);
  CHECK(on.code == 0);
  CHECK_THAT(on.output, contains("resume     step 3 of 12"));
  CHECK(steps_in(path).size() == 12);
  CHECK(std::filesystem::exists(folder / "r_lr[1e-3]/mine"));

  folder.write("foreign/config.toml", "mine");
  const Outcome refused =
      run(one_rank(folder) + " --auto-resume --run-directory " + (folder / "foreign").string());
  CHECK(refused.code == 2);
  CHECK_THAT(refused.output, contains("contains config.toml and is not a run"));
}

TEST_CASE("a folder or a pipe named config.toml is kept under another name, and the configuration restored") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  REQUIRE(run(one_rank(folder) + " --stop-after 4 --run-directory " + path).code == 75);
  std::string expected = path + "/config.toml.damaged";
  for (const char* damage : {"mkdir -p {}/config.toml/mine", "mkfifo {}/config.toml"}) {
    REQUIRE(
        run(fmt::format("bash -c 'rm -r {}/config.toml; {}'", path, fmt::format(fmt::runtime(damage), path)))
            .code == 0);
    const Outcome on = run(fmt::format("{} train --resume {} --stop-after 5", program(), path));
    INFO(on.output);
    CHECK(on.code == 75);
    CHECK_THAT(on.output, contains("it is restored from") && contains("the old one is kept as " + expected));
    CHECK_THAT(run(fmt::format("cat {}/config.toml", path)).output, contains("hidden_size"));
    expected += ".2";
  }
  CHECK(std::filesystem::is_directory(path + "/config.toml.damaged/mine"));
  CHECK(std::filesystem::is_fifo(path + "/config.toml.damaged.2"));
}

TEST_CASE("an empty config.toml, as after a power loss, is restored from the newest manifest") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  REQUIRE(run(one_rank(folder) + " --stop-after 4 --run-directory " + path).code == 75);
  for (const char* damage : {": >", "rm", "head -c 300 /dev/zero >"}) {
    REQUIRE(run(fmt::format("bash -c '{} {}/config.toml'", damage, path)).code == 0);
    const Outcome on =
        run(fmt::format("{} train --resume {} --stop-after 12 --set train.steps=4", program(), path));
    INFO(on.output);
    CHECK(on.code == 0);
    CHECK_THAT(on.output, contains("it is restored from") && contains("step_00000004/manifest.json"));
    CHECK_THAT(run(fmt::format("cat {}/config.toml", path)).output, contains("hidden_size"));
  }
}

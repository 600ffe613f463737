// foretoken doctor as a user runs it.
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tests/support/catch.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("doctor checks a rank and its run folder, prints JSON and saves the rates") {
  const TemporaryFolder folder;
  const std::string saved = (folder / "links.json").string();
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
  CHECK(files_in(folder.path()) == 1);  // links.json alone
}

TEST_CASE("doctor ends with code 5 and one line if the run folder cannot be written") {
  const Outcome outcome = run(program() + " doctor --run /proc/first");
  INFO(outcome.output);
  CHECK(outcome.code == 5);
  CHECK_THAT(outcome.output,
             contains("\nWRONG    run folder: rank 0: writing to /proc failed: ") && contains("\n1 wrong, "));
}

TEST_CASE("a supervised run with --doctor trains on a sound machine and ends with code 5 on another") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  const std::string command =
      fmt::format("{} run {} --run-directory {} -n 1 --doctor --set train.steps=2", program(),
                  small_training(folder).substr(std::string("train ").size()), path);
  const Outcome refused = run(fmt::format(R"(bash -c "ulimit -n 200 && exec {}")", command));
  INFO(refused.output);
  CHECK(refused.code == 5);
  CHECK_THAT(refused.output,
             contains("WRONG    limits: rank 0 may open 200 files; a job of 1 rank needs 260") &&
                 contains("ended      foretoken doctor found something wrong: code 5"));
  CHECK_FALSE(std::filesystem::exists(path + "/attempts/0001.log"));

  const Outcome trained = run(command);
  INFO(trained.output);
  CHECK(trained.code == 0);
  CHECK_THAT(trained.output, contains("doctor     1 rank on 1 host, ") && contains("attempt    1 on 1 rank"));
  CHECK(std::filesystem::exists(path + "/attempts/doctor.log"));
}

TEST_CASE("doctor refuses a layout that does not fit the ranks") {
  const TemporaryFolder folder;
  small_training(folder);
  const Outcome outcome = run(fmt::format("{} doctor {} --set parallel.pp=2 --set parallel.dp=1", program(),
                                          (folder / "train.toml").string()));
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.output, contains("pp 2 × dp 1"));
}

TEST_CASE("doctor names the rank with another executable and measures nothing") {
  const TemporaryFolder folder;
  const std::string other = (folder / "foretoken").string();
  std::filesystem::copy_file(program(), other);
  std::ofstream(other, std::ios::app) << '\n';
  const Outcome outcome = run(fmt::format("{} doctor : -n 1 {} doctor", program_on(1), other));
  INFO(outcome.output);
  CHECK(outcome.code == 5);
  CHECK_THAT(outcome.output, contains("WRONG    program: build: rank 1 has ") &&
                                 contains("speeds and links were not measured") && !contains("matrix rate"));
}

TEST_CASE("doctor names the rank whose matrix products are slow") {
  std::string command = program_on(2) + " doctor";
  command.replace(command.find(" -n "), 1, slow_products(1));
  const Outcome outcome = run(command);
  INFO(outcome.output);
  CHECK(outcome.code == 5);
  CHECK_THAT(outcome.output,
             contains("WRONG    matrix rate, f32: rank 1 is ") && contains(" % slower than the median: "));
}

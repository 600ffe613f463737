// train.trace_step, which writes the timeline of a step.

#include <fstream>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "tests/support/catch.h"
#include "tests/system/program.h"

using namespace foretoken::testing;

TEST_CASE("train.trace_step writes the actions of every rank in that step") {
  const foretoken::TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  const Outcome outcome =
      run(program_on(2) + " " + small_training(folder) +
          " --set parallel.pp=2 --set train.steps=3 --set train.trace_step=2 --run-directory " + path);
  INFO(outcome.output);
  REQUIRE(outcome.code == 0);
  CHECK_THAT(outcome.output,
             contains("trace      step 2: ") && contains(" ms, compute ") && contains("trace_00000002.json"));
  std::ifstream file(path + "/trace_00000002.json");
  const nlohmann::json trace = nlohmann::json::parse(file);
  std::map<int, std::multiset<std::string>> actions;
  for (const nlohmann::json& event : trace.at("traceEvents"))
    if (event.at("ph") == "X") {
      CHECK(event.at("dur").get<double>() >= 0);
      actions[event.at("pid")].insert(event.at("name"));
    }
  CHECK(actions.size() == 2);
  for (const int rank : {0, 1}) {
    CHECK(actions[rank].count(std::to_string(rank) + "F0") == 1);
    CHECK(actions[rank].count(std::to_string(rank) + "B0") == 1);
    CHECK(actions[rank].count("gradient norm") == 1);
  }
  CHECK(!std::filesystem::exists(path + "/trace_00000001.json"));
}

// Device profiles: reading them, and the times and partitions that follow from them.

#include <filesystem>
#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>

#include "launch/commands/plan.h"
#include "launch/config/config_loader.h"
#include "launch/config/layout.h"
#include "launch/plan/layout_bound.h"
#include "launch/plan/planner.h"
#include "launch/profile/machine_links.h"
#include "launch/profile/measured_times.h"
#include "launch/session/session.h"
#include "launch/training/startup_table.h"
#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;

namespace {

Config config_of(const std::vector<std::string>& sets = {}) {
  Config config;
  apply_sets(config, {"model.hidden_size=32", "model.num_hidden_layers=8", "model.num_attention_heads=2",
                      "model.vocab_size=64", "mtp.depths=2", "data.sequence_length=16", "data.path=data.h5",
                      "train.global_batch=16", "train.microbatch=2", "run.device=cpu", "parallel.dp=1"});
  apply_sets(config, sets);
  return config;
}

/// Every part takes 1 s forward and 2 s backward with two rows, and twice that with four.
DeviceProfile profile_of(const Config& config) {
  DeviceProfile profile{.device = "cpu (test)",
                        .commit = "0",
                        .date = "2026-11-28T22:00:00Z",
                        .settings = measured_settings(config, DeviceKind::cpu),
                        .update = 1e-9,
                        .gradient_norm = 5e-10,
                        .start = 1e-10,
                        .host = 0.25,
                        .process_bytes = 1000};
  for (const std::int64_t rows : {2, 4})
    for (const char* name : {"attention", "mlp", "embedding", "heads", "main_head", "depth_1", "depth_2"}) {
      const auto factor = static_cast<double>(rows) / 2;
      profile.parts.push_back({.name = name,
                               .microbatch = rows,
                               .seconds = {factor, factor, factor},
                               .spread = 0.01,
                               .repetitions = 8});
    }
  return profile;
}

void set_seconds(DeviceProfile& profile, const std::string& part, double seconds) {
  for (DeviceProfile::Part& one : profile.parts)
    if (one.name == part) one.seconds = {seconds, seconds, seconds};
}

std::vector<int> partition(Config config, const DeviceProfile& profile) {
  config.device_times = std::make_shared<MeasuredTimes>(profile, "profile.json", config);
  return resolve_layout(config, {.pp = 2}, Purpose::train).halves_per_stage;
}

}  // namespace

TEST_CASE("a profile that is written and read again has the same times, settings and device") {
  const DeviceProfile before = profile_of(config_of());
  const DeviceProfile after = profile_from(to_json_text(before), "profile.json");
  CHECK(after.device == before.device);
  CHECK(after.settings == before.settings);
  CHECK(after.process_bytes == before.process_bytes);
  CHECK(after.host == before.host);
  REQUIRE(after.parts.size() == before.parts.size());
  CHECK(after.parts[7].name == before.parts[7].name);
  CHECK(after.parts[7].microbatch == 4);
  CHECK(after.parts[7].seconds == before.parts[7].seconds);
}

TEST_CASE("a profile that is damaged, edited, of another version or no profile is refused with its reason") {
  const std::string text = to_json_text(profile_of(config_of()));
  const auto refused = [&](const std::string& from, const std::string& to, const char* message) {
    std::string damaged = text;
    damaged.replace(damaged.find(from), from.size(), to);
    CHECK_THROWS_WITH(profile_from(damaged, "p.json"), foretoken::testing::contains(message));
    CHECK_THROWS_AS(profile_from(damaged, "p.json"), DataError);
  };
  refused("\"spread\": 0.01", "\"spread\": 0.02", "p.json: the digest differs from the content");
  refused("\"version\": 1", "\"version\": 2", "a device profile of version 2, expected 1");
  refused("foretoken device profile", "another format", "not a device profile");
  CHECK_THROWS_AS(profile_from(text.substr(0, text.size() / 2), "p.json"), DataError);
  CHECK_THROWS_AS(profile_from(std::string(1000, '['), "p.json"), DataError);
  nlohmann::json json = nlohmann::json::parse(text);
  json.erase("digest");
  json["parts"][0]["forward_seconds"] = -1;
  CHECK_THROWS_WITH(profile_from(json.dump(), "p.json"),
                    foretoken::testing::contains("part 0: \"forward_seconds\": expected a number, 0 to"));
  json["parts"][0] = json["parts"][1];
  CHECK_THROWS_WITH(profile_from(json.dump(), "p.json"), foretoken::testing::contains("listed twice"));
}

TEST_CASE("a profile of other shapes, another mode or another device names both values") {
  const DeviceProfile profile = profile_of(config_of());
  CHECK_THROWS_WITH(MeasuredTimes(profile, "p.json", config_of({"model.hidden_size=64"})),
                    foretoken::testing::contains("p.json was measured with model.head_dim 16, but the "
                                                 "configuration has 32"));
  CHECK_THROWS_WITH(MeasuredTimes(profile, "p.json", config_of({"data.sequence_length=32"})),
                    foretoken::testing::contains("data.sequence_length 16, but the configuration has 32"));
  CHECK_NOTHROW(MeasuredTimes(profile, "p.json", config_of({"model.num_hidden_layers=4"})));
  const MeasuredTimes times(profile, "p.json", config_of());
  CHECK_THROWS_WITH(
      times.layers(config_of({"train.recompute=full"})),
      foretoken::testing::contains("no times of part \"attention\" with train.recompute \"full\""));
  CHECK_NOTHROW(times.require_device("cpu (test)", 1));
  CHECK_THROWS_WITH(
      times.require_device("NVIDIA H200", 1),
      foretoken::testing::contains("on \"cpu (test)\", but the ranks compute on \"NVIDIA H200\""));
  CHECK_THROWS_WITH(times.require_device("cpu (test)", 2),
                    foretoken::testing::contains("1 threads per rank"));
}

TEST_CASE("times between measured rows are interpolated, and beyond them proportional to the rows") {
  const MeasuredTimes times(profile_of(config_of()), "p.json", config_of());
  const auto attention = [&](const char* rows) {
    return times.layers(config_of({std::string("train.microbatch=") + rows})).halves.front().forward;
  };
  CHECK(attention("1") == 1);
  CHECK(attention("2") == 1);
  CHECK(attention("3") == 1.5);
  CHECK(attention("8") == 4);
  const LayerCosts apart = times.layers(config_of({"mtp.placement=stage_per_depth"}));
  CHECK(apart.after.size() == 2);
  CHECK(times.host(config_of()) > 0.25);
}

TEST_CASE("the cut between two stages moves away from what a profile measured as expensive") {
  const Config config = config_of();
  DeviceProfile profile = profile_of(config);
  set_seconds(profile, "embedding", 0);
  set_seconds(profile, "heads", 0);
  CHECK(partition(config, profile) == std::vector<int>{8, 8});
  set_seconds(profile, "heads", 4);
  CHECK(partition(config, profile).front() > 8);
  set_seconds(profile, "heads", 0);
  set_seconds(profile, "embedding", 4);
  CHECK(partition(config, profile).front() < 8);
}

TEST_CASE("no layout's bound is above its step if the start of a step depends on the layout") {
  const Config config = config_of({"train.microbatch=2", "train.recompute=none", "parallel.schedule=1f1b"});
  DeviceProfile profile = profile_of(config);
  profile.start = 1;
  PlanOptions options{.rates = rates_of("cpu"), .top = 1000};
  options.times = std::make_shared<MeasuredTimes>(profile, "profile.json", config);
  const RanksPlan plan = plan_ranks(config, 4, options);
  LayoutBound bound(config, *options.times, DeviceKind::cpu, links_of(options));
  REQUIRE_FALSE(plan.best.empty());
  for (const PlannedLayout& planned : plan.best) CHECK(bound.seconds(planned.layout) <= planned.step.total);
}

TEST_CASE("the start-up table says whether its times are estimates or those of a profile") {
  Config config = config_of({"parallel.pp=2"});
  const auto table = [&] {
    return startup_table(plan_session(config, {.pp = 2}, Purpose::train, {.kind = DeviceKind::cpu}), 200);
  };
  CHECK_THAT(table(), foretoken::testing::contains("the times below are estimates\n"));
  config.device_times = std::make_shared<MeasuredTimes>(profile_of(config), "profile.json", config);
  CHECK_THAT(table(), foretoken::testing::contains("the times below are those of parallel.profile\n"));
}

TEST_CASE("a plan with a profile takes its times, its process's bytes and the links of a machine") {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "foretoken_profile_test";
  std::filesystem::create_directories(folder);
  const Config config = config_of({"parallel.pp=2", "parallel.schedule=1f1b", "train.microbatch=2",
                                   "train.recompute=none", "mtp.placement=last"});
  std::ofstream(folder / "profile.json") << to_json_text(profile_of(config));
  std::ofstream(folder / "links.json")
      << R"({"device": "cpu", "links": {"inside": {"latency": 10.0, "bandwidth": 1e12}}})";
  const auto json_of = [&](std::vector<std::string> profiles) {
    std::ostringstream out;
    plan(config, {.ranks = {2}, .profiles = std::move(profiles), .json = true}, out);
    return nlohmann::json::parse(out.str());
  };
  const std::string profile = (folder / "profile.json").string(), links = (folder / "links.json").string();
  const nlohmann::json near = json_of({profile}), far = json_of({profile, links});
  const nlohmann::json& best = near["plans"][0]["best"][0];
  CHECK(near["device"] == "cpu (test)");
  CHECK(best["memory_bytes"].get<int>() == best["tensor_bytes"].get<int>() + 1000);
  // 16 halves, embedding and heads, 3 s each, 8 microbatches on 2 ranks.
  CHECK(best["step_seconds"].get<double>() > 8 * 18 * 3 / 2);
  CHECK(far["plans"][0]["best"][0]["step_seconds"].get<double>() > best["step_seconds"].get<double>() + 10);
  CHECK_THROWS_WITH(json_of({profile, profile}), foretoken::testing::contains("both device profiles"));
  CHECK_THROWS_WITH(json_of({links, links}), foretoken::testing::contains("both have links"));
  std::ostringstream out;
  CHECK_THROWS_WITH(plan(config, {.ranks = {2}, .device = "h100", .profiles = {profile}}, out),
                    foretoken::testing::contains("--gpu h100, but the profile was measured on"));
  std::filesystem::remove_all(folder);
}

TEST_CASE("links of a machine are read strictly") {
  CHECK(machine_links_from(R"({"links": {"inside": {"latency": 1e-6, "bandwidth": 1e9}}})", "m.json")
            .inside->bandwidth == 1e9);
  CHECK_FALSE(machine_links_from(R"({"links": {}})", "m.json").between);
  for (const char* text : {"{}", "[]", "{", R"({"links": {"inside": {"latency": -1, "bandwidth": 1}}})",
                           R"({"links": {"inside": {"latency": 1}}})"})
    CHECK_THROWS_AS(machine_links_from(text, "m.json"), DataError);
}

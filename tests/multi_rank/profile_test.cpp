// Device profiles on several ranks: measuring, loading, and the copy in a run's folder.
#include <filesystem>
#include <fstream>

#include "io/checkpoint/run_directory.h"
#include "launch/config/config_loader.h"
#include "launch/config/device_times.h"
#include "launch/plan/measure_profile.h"
#include "launch/session/agreement.h"
#include "launch/session/profile_on_ranks.h"
#include "launch/training/run_profile.h"
#include "runtime/error.h"
#include "tests/support/multi_rank.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;

namespace {

Config config_of(const std::vector<std::string>& sets = {}) {
  Config config;
  apply_sets(config,
             {"model.hidden_size=32", "model.num_hidden_layers=2", "model.num_attention_heads=2",
              "model.vocab_size=64", "mtp.depths=1", "data.sequence_length=16", "data.path=data.h5",
              "train.global_batch=4", "train.microbatch=2", "train.recompute=none", "run.device=cpu"});
  apply_sets(config, sets);
  return config;
}

/// Written by rank 0 alone, with a path that is the same on both ranks.
std::string write_profile(MpiCommunicator& world, const TemporaryFolder& folder, const char* name,
                          const DeviceProfile& profile) {
  const std::string path = broadcast_text(world, folder / name);
  if (world.rank() == 0) std::ofstream(path) << to_json_text(profile);
  world.barrier();
  return path;
}

}  // namespace

TEST_CASE("a profile measured on two ranks has every part, and a resumed run loads its own copy",
          "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const TemporaryFolder folder;
  DeviceProfile measured = measure_profile(world, config_of(), [](const std::string&) {});
  CHECK(measured.ranks == 2);
  std::vector<std::string> names;
  for (const DeviceProfile::Part& part : measured.parts) {
    names.push_back(part.name);
    CHECK(part.microbatch == 2);
    if (part.name != "embedding") CHECK(part.seconds.total() > 0);
  }
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"attention", "depth_1", "embedding", "heads", "main_head", "mlp"});
  CHECK(measured.update > 0);
  CHECK(measured.gradient_norm > 0);

  Console silent(false);
  const std::string path = write_profile(world, folder, "profile.json", measured);
  Config config = config_of();
  config.parallel.profile = path;
  load_run_profile(config, "", world, silent);
  REQUIRE(config.device_times);
  const std::string run = broadcast_text(world, folder / "run");
  if (world.rank() == 0) RunDirectory::create_at(run, to_toml(config));
  world.barrier();
  keep_profile(config, run, world);

  measured.host = 1000;
  write_profile(world, folder, "profile.json", measured);
  Config resumed = config_of();
  resumed.parallel.profile = path;
  load_run_profile(resumed, run, world, silent);
  CHECK(resumed.parallel.profile == profile_of_run(run));
  CHECK(resumed.device_times->profile_text() == config.device_times->profile_text());
  Config replaced = config_of({"parallel.profile=" + path});
  load_run_profile(replaced, run, world, silent);
  CHECK(replaced.device_times->host(replaced) > 999);

  world.barrier();
  if (world.rank() == 0) std::ofstream(path) << "{";
  world.barrier();
  Config damaged = config_of({"parallel.profile=" + path});
  CHECK_THROWS_AS(load_profile(damaged, world), DataError);
  world.barrier();
}

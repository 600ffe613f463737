#include "launch/training/run_profile.h"

#include <filesystem>

#include <fmt/format.h>

#include "io/checkpoint/run_directory.h"
#include "io/files/durable_file.h"
#include "io/files/text_file.h"
#include "launch/config/device_times.h"
#include "launch/profile/device_profile.h"
#include "launch/session/agreement.h"
#include "launch/session/profile_on_ranks.h"
#include "runtime/error.h"

namespace foretoken {

void load_run_profile(Config& config, const std::string& resume, Communicator& world, Console& console) {
  if (config.parallel.profile.empty()) return;
  std::string kept;  // the folder's copy
  if (world.rank() == 0 && !resume.empty()) {
    kept = profile_of_run(RunDirectory::open(resume).path());
    if (!std::filesystem::exists(kept)) kept.clear();
  }
  kept = broadcast_text(world, kept);
  const auto origin = config.origins.find("parallel.profile");
  const bool replaced = origin != config.origins.end() && origin->second.starts_with("--set");
  if (!kept.empty() && !replaced) config.parallel.profile = kept;
  load_profile(config, world);
  if (world.rank() == 0 && replaced && !kept.empty() &&
      read_text_file(kept, most_profile_bytes) != config.device_times->profile_text())
    console.warn(
        fmt::format("{} differs from the profile that the run used, {}: layers may be assigned to "
                    "stages differently",
                    config.parallel.profile, kept));
}

void keep_profile(const Config& config, const std::string& run, Communicator& world) {
  std::string error;
  if (world.rank() == 0) try {
      if (config.device_times)
        write_durably(profile_of_run(run), config.device_times->profile_text());
      else
        std::filesystem::remove(profile_of_run(run));
    } catch (const std::exception& failure) {
      error = failure.what();
    }
  if (error = first_error(world, error); !error.empty()) throw DataError("{}", error);
}

}  // namespace foretoken

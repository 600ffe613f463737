#include "launch/session/profile_on_ranks.h"

#include <fstream>
#include <memory>

#include "io/files/printable.h"
#include "launch/profile/measured_times.h"
#include "launch/session/agreement.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name"))
      if (const std::size_t value = line.find(": "); value != std::string::npos)
        return printable(line.substr(value + 2));
  return "unknown processor";
}

}  // namespace

std::string device_identity(const Device& device) {
  const std::string name = device.name();
  return name == "cpu" ? "cpu (" + processor_name() + ")" : name;
}

void load_profile(Config& config) {
  const std::string& path = config.parallel.profile;
  if (path.empty() || config.device_times) return;
  config.device_times = std::make_shared<MeasuredTimes>(read_profile(path), path, config);
}

void load_profile(Config& config, Communicator& world) {
  const std::string path = config.parallel.profile;
  if (path.empty() || config.device_times) return;
  std::string text, error;
  if (world.rank() == 0) try {
      text = to_json_text(read_profile(path));
    } catch (const std::exception& failure) {
      error = failure.what();
    }
  if (error = first_error(world, error); !error.empty()) throw DataError("{}", error);
  config.device_times =
      std::make_shared<MeasuredTimes>(profile_from(broadcast_text(world, text), path), path, config);
}

std::string profile_of_run(const std::string& run) {
  return run + "/profile.json";
}

}  // namespace foretoken

#include "launch/plan/plan_input.h"

#include <memory>

#include "io/files/text_file.h"
#include "launch/config/config_loader.h"
#include "launch/profile/machine_links.h"
#include "launch/profile/measured_times.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

/// The files of --profile, or of parallel.profile.
struct Measured {
  std::shared_ptr<const MeasuredTimes> times;
  MachineLinks links;
};

Measured read_measured(const Config& config, const PlanRequest& request) {
  Measured measured;
  bool has_links = false;
  const auto read = [&](const std::string& file) {
    const std::string text = read_text_file(file, most_profile_bytes);
    if (is_profile(text)) {
      if (measured.times)
        throw UsageError("plan: --profile: {} and an earlier file are both device profiles, expected one",
                         file);
      measured.times = std::make_shared<MeasuredTimes>(profile_from(text, file), file, config);
    } else {
      if (has_links)
        throw UsageError("plan: --profile: {} and an earlier file both have links, expected one", file);
      measured.links = machine_links_from(text, file);
      has_links = true;
    }
  };
  for (const std::string& file : request.profiles) read(file);
  if (!measured.times && !config.parallel.profile.empty()) read(config.parallel.profile);
  return measured;
}

/// The name in the table of rates of the device that was measured.
std::string table_name(const DeviceProfile& profile) {
  if (profile.kind() == DeviceKind::cpu) return "cpu";
  return profile.device.find("H200") != std::string::npos ? "h200" : "h100";
}

std::string device_of(const Config& config, const PlanRequest& request, const Measured& measured) {
  const bool on_cpu = config.run.device == RunConfig::Device::cpu;
  if (!measured.times) return !request.device.empty() ? request.device : on_cpu ? "cpu" : "h100";
  const DeviceProfile& profile = measured.times->profile();
  const std::string name = table_name(profile);
  if (!request.device.empty() && request.device != name)
    throw UsageError("plan: --gpu {}, but the profile was measured on \"{}\" ({})", request.device,
                     profile.device, name);
  if (on_cpu && name != "cpu")
    throw usage_error(config, {"run.device"},
                      "plan: run.device is \"cpu\", but the profile was measured on \"{}\"", profile.device);
  return name;
}

/// The rates with what was measured in their place.
PlanOptions options_of(const Config& config, const PlanRequest& request, const Measured& measured) {
  PlanOptions options{.rates = rates_of(device_of(config, request, measured)),
                      .per_node = request.per_node,
                      .top = request.top};
  if (measured.links.inside) options.rates.inside = *measured.links.inside;
  if (measured.links.between) options.rates.between = *measured.links.between;
  if (measured.times) {
    options.rates.name = measured.times->profile().device;
    options.rates.libraries = measured.times->profile().process_bytes;
    options.times = measured.times;
  }
  return options;
}

}  // namespace

PlanInput plan_input(const Config& config, const PlanRequest& request) {
  const Measured measured = read_measured(config, request);
  PlanInput input{.config = config, .options = options_of(config, request, measured)};
  input.options.memory = request.memory ? request.memory : input.options.rates.memory;
  if (input.options.rates.kind == DeviceKind::cpu && config.train.precision == TrainConfig::Precision::bf16)
    throw usage_error(config, {"train.precision"},
                      "train: precision \"bf16\" needs GPUs, but the plan is for the CPU");
  input.config.run.device = RunConfig::Device::automatic;
  if (input.config.data.path.empty()) input.config.data.path = "data.h5";
  input.config.device_times = measured.times;
  return input;
}

}  // namespace foretoken

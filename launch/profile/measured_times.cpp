#include "launch/profile/measured_times.h"

#include <algorithm>

#include "launch/config/layout.h"
#include "model/config_names.h"
#include "model/cost.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

StageDurations interpolated(const DeviceProfile::Part* before, const DeviceProfile::Part* after,
                            std::int64_t rows) {
  if (before == nullptr) return after->seconds;
  const auto x = static_cast<double>(rows), x0 = static_cast<double>(before->microbatch);
  if (after == nullptr) return (x / x0) * before->seconds;
  const double share = (x - x0) / (static_cast<double>(after->microbatch) - x0);
  return (1 - share) * before->seconds + share * after->seconds;
}

}  // namespace

MeasuredTimes::MeasuredTimes(DeviceProfile profile, std::string name, const Config& config)
    : profile_(std::move(profile)), name_(std::move(name)) {
  for (const auto& [setting, value] : measured_settings(config, profile_.kind())) {
    const auto found = profile_.settings.find(setting);
    if (found == profile_.settings.end())
      throw UsageError("profile: {}: {} is missing in its settings, expected {}", name_, setting, value);
    if (found->second != value)
      throw UsageError(
          "profile: {} was measured with {} {}, but the configuration has {}; measure again with "
          "foretoken plan CONFIG.toml --measure",
          name_, setting, found->second, value);
  }
  if (config.mtp.balance == MtpConfig::Balance::sampling)
    throw UsageError(
        "profile: {}: mtp.balance \"sampling\" trains random depths, which a profile does not "
        "measure",
        name_);
}

void MeasuredTimes::require_device(const std::string& device, int threads) const {
  if (profile_.device != device)
    throw UsageError("profile: {} was measured on \"{}\", but the ranks compute on \"{}\"", name_,
                     profile_.device, device);
  if (profile_.kind() == DeviceKind::cpu && profile_.threads != threads)
    throw UsageError("profile: {} was measured with {} threads per rank, but the ranks have {}", name_,
                     profile_.threads, threads);
}

StageDurations MeasuredTimes::seconds(const std::string& part, const Config& config) const {
  const std::int64_t rows = config.train.microbatch;
  const DeviceProfile::Part* before = nullptr;  // the largest measured number of at most `rows` rows
  const DeviceProfile::Part* after = nullptr;   // the smallest one of more rows
  for (const DeviceProfile::Part& one : profile_.parts) {
    if (one.name != part || one.recompute != config.train.recompute) continue;
    if (one.microbatch <= rows) {
      if (before == nullptr || one.microbatch > before->microbatch) before = &one;
    } else if (after == nullptr || one.microbatch < after->microbatch) {
      after = &one;
    }
  }
  if (before == nullptr && after == nullptr)
    throw UsageError(
        "profile: {} has no times of part \"{}\" with train.recompute \"{}\"; measure again with "
        "this setting",
        name_, part, name_of(config.train.recompute));
  return interpolated(before, after, rows);
}

LayerCosts MeasuredTimes::layers(const Config& config) const {
  LayerCosts costs = estimated_costs(config, Purpose::train);  // for the structure
  const auto layers = static_cast<std::int64_t>(costs.halves.size()) / 2;
  const bool fp8 = config.train.precision == TrainConfig::Precision::fp8;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const bool kept =
        fp8 && (layer < config.fp8.first_layers_bf16 || layer >= layers - config.fp8.last_layers_bf16);
    const auto half = costs.halves.begin() + 2 * layer;
    half[0] = seconds(kept ? "attention_bf16" : "attention", config);
    half[1] = seconds(kept ? "mlp_bf16" : "mlp", config);
  }
  costs.first = seconds("embedding", config);
  costs.last = seconds(costs.after.empty() ? "heads" : "main_head", config);
  for (std::size_t depth = 0; depth < costs.after.size(); ++depth)
    costs.after[depth] = seconds("depth_" + std::to_string(depth + 1), config);
  return costs;
}

double MeasuredTimes::host(const Config& config) const {
  const auto parameters = static_cast<double>(parameter_count(config.model, config.mtp));
  return profile_.host + profile_.start * parameters / std::max(1, config.parallel.pp);
}

}  // namespace foretoken

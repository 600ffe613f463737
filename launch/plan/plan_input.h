#pragma once
// What plan_ranks() needs, from the names and files that a user gives.

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "launch/plan/planner.h"

namespace foretoken {

struct PlanRequest {
  std::string device;  // of device_names(); empty: the profile's, else cpu if run.device is, else h100
  std::vector<std::string> profiles;  // files of plan --measure and doctor --save
  std::optional<std::size_t> memory;  // bytes of one device; empty: the device's
  int per_node = 8;
  int top = 10;
};

struct PlanInput {
  Config config;  // needs neither data nor such a device
  PlanOptions options;
};

/// The device's rates, or what the profiles or parallel.profile measured in their place. Throws a UsageError
/// if they do not belong together or to the configuration, and a DataError if a file is damaged.
PlanInput plan_input(const Config& config, const PlanRequest& request);

}  // namespace foretoken

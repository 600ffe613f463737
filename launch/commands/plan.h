#pragma once
// `foretoken plan`: which layouts of a configuration fit on a number of devices, and how fast they are,
// without ranks or such devices; and the measurement of the device of each rank.

#include <ostream>
#include <string>
#include <vector>

#include "launch/config/config.h"

namespace foretoken {

struct PlanArguments {
  std::string config_path;
  std::vector<std::string> sets;      // these settings are not varied
  std::vector<int> ranks;             // numbers of ranks, one rank per device
  std::string device;                 // of device_names(); empty: see PlanRequest (launch/plan/plan_input.h)
  std::string memory;                 // "80GiB"; empty: the device's
  std::vector<std::string> profiles;  // files of plan --measure and doctor --save
  bool measure = false;
  std::string output;  // file of --measure
  int per_node = 8;
  int top = 10;
  bool json = false;
};

/// Returns the exit code: 0, also if no layout fits. Throws a UsageError if the configuration is illegal, or
/// if no layout is legal for one of the numbers.
int plan(const Config& config, const PlanArguments& arguments, std::ostream& out);

/// `foretoken plan --measure`: measures this device on every rank, writes the profile, prints progress and a
/// table. Returns the exit code.
int measure_device(const Config& config, const PlanArguments& arguments);

/// Bytes of a size such as "80GiB", "40.5GiB" or "512MiB". Throws a UsageError for any other text.
std::size_t memory_size(const std::string& text);
/// Numbers of ranks such as "8,64,2048". Throws a UsageError for any other text.
std::vector<int> rank_counts(const std::string& text);

}  // namespace foretoken

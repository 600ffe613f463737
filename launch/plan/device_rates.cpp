#include "launch/plan/device_rates.h"

#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

const std::array<DeviceRates, 3>& devices() {
  static const std::array<DeviceRates, 3> all = {{
      {.name = "h100",
       .products = 631e12,
       .row_bandwidth = 2.99e12,
       .update_bandwidth = 3.02e12,
       .memory = 80 * 1024 * mib,
       .libraries = 660 * mib,
       .inside = {.latency = 10e-6, .bandwidth = 359e9},
       .between = {.latency = 20e-6, .bandwidth = 45e9}},
      {.name = "h200",
       .products = 638e12,
       .row_bandwidth = 4.3e12,
       .update_bandwidth = 4.3e12,
       .memory = 140 * 1024 * mib,
       .libraries = 660 * mib,
       .inside = {.latency = 10e-6, .bandwidth = 359e9},
       .between = {.latency = 20e-6, .bandwidth = 45e9}},
      {.name = "cpu",
       .kind = DeviceKind::cpu,
       .products = 100e9,
       .row_bandwidth = 2e9,
       .update_bandwidth = 8e9,
       .memory = std::nullopt,
       .libraries = 0,
       .inside = {.latency = 5e-6, .bandwidth = 4e9},
       .between = {.latency = 30e-6, .bandwidth = 1e9}},
  }};
  return all;
}

}  // namespace

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const DeviceRates& device : devices()) names.push_back(device.name);
  return names;
}

const DeviceRates& rates_of(std::string_view name) {
  for (const DeviceRates& device : devices())
    if (device.name == name) return device;
  throw UsageError("plan: --gpu: expected one of {}, found \"{}\"; see foretoken plan --help",
                   fmt::join(device_names(), ", "), name);
}

}  // namespace foretoken

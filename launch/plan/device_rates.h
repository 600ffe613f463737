#pragma once
// Rates of the devices that `foretoken plan` can plan for. launch/docs/plan.md states the source of each.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/planning/links.h"
#include "runtime/tensor.h"

namespace foretoken {

struct DeviceRates {
  std::string name;  // of --gpu: "h100"
  DeviceKind kind = DeviceKind::cuda;
  double products = 0;       // FLOP/s of a block's products; model/cost.h relates the other operators to them
  double row_bandwidth = 0;  // bytes/s of norms, rotary embedding, gates and losses
  double update_bandwidth = 0;        // bytes/s of AdamW
  std::optional<std::size_t> memory;  // bytes of one device; empty: not limited
  std::size_t libraries = 0;          // bytes that a process takes on the device beside its tensors
  Link inside;                        // a node
  Link between;                       // nodes
};

std::vector<std::string> device_names();
/// Throws a UsageError that lists the names if no device has this one.
const DeviceRates& rates_of(std::string_view name);

}  // namespace foretoken

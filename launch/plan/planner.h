#pragma once
// Compares the layouts of a configuration on a number of ranks: which fit, and how long a step takes.

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "launch/plan/device_rates.h"
#include "launch/plan/fullest_rank.h"
#include "launch/plan/layout_space.h"
#include "launch/plan/rated_times.h"
#include "launch/plan/step_estimate.h"

namespace foretoken {

struct PlanOptions {
  DeviceRates rates;
  std::shared_ptr<const DeviceTimes> times = std::make_shared<RatedTimes>(rates);
  int per_node = 8;                   // ranks of a node
  std::optional<std::size_t> memory;  // bytes of one device; empty: not limited
  int top = 10;                       // layouts to show
};

struct PlannedLayout {
  PlanLayout layout;
  std::vector<int> halves_per_stage;
  FullestRank fullest;
  std::size_t memory = 0;  // bytes of the fullest rank with the libraries
  StepEstimate step;
  double tokens_per_second = 0;
  double model_flops = 0;  // FLOP/s of one device
};

struct RanksPlan {
  int ranks = 0;
  std::size_t legal = 0;            // layouts
  std::vector<PlannedLayout> best;  // that fit, best first
  std::size_t too_large = 0;        // layouts of the search that do not fit
  /// The one of them whose fullest rank needs the least.
  std::optional<PlannedLayout> nearest;
};

/// The layouts are visited in the order of a first estimate: the compute of a balanced pipeline and the time
/// in which it fills and drains. Those that do not fit are counted. The search ends when three times `top`,
/// and at least 30, layouts fit; these have the partition of layers that training would choose, the memory
/// that it would take, and a simulated step, and the best of them are returned. Throws a UsageError if no
/// layout is legal.
RanksPlan plan_ranks(const Config& config, int ranks, const PlanOptions& options);

}  // namespace foretoken

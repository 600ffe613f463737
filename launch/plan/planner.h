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
#include "parallel/planning/step_time.h"

namespace foretoken {

struct PlanOptions {
  DeviceRates rates;
  std::shared_ptr<const DeviceTimes> times = std::make_shared<RatedTimes>(rates);
  int per_node = 8;                   // ranks of a node
  std::optional<std::size_t> memory;  // bytes of one device; empty: not limited
  int top = 10;                       // layouts to show
};

/// Each GPU has a network adapter and computes while it communicates. The ranks of a CPU node share one
/// adapter, and a rank does not compute while it communicates.
Links links_of(const PlanOptions& options);

struct PlannedLayout {
  PlanLayout layout;
  std::vector<int> halves_per_stage;
  FullestRank fullest;
  std::size_t communicators = 0;  // bytes that NCCL takes on a rank
  std::size_t memory = 0;         // bytes of the fullest rank with libraries and communicators
  StepTime step;
  double tokens_per_second = 0;
  double model_flops = 0;  // FLOP/s of one device
};

struct RanksPlan {
  int ranks = 0;
  std::size_t legal = 0;            // layouts
  std::vector<PlannedLayout> best;  // that fit, best first
  std::size_t too_large = 0;        // layouts whose memory was counted and does not fit
  /// The one of them whose fullest rank needs the least.
  std::optional<PlannedLayout> nearest;
  /// Other layouts. None of them is faster than the last of `best`, whether it fits or not.
  std::size_t not_faster = 0;
};

/// Finds the layouts with the shortest steps among all that fit. The step of a layout is the predicted one of
/// the partition of layers that training would choose (StepCostModel, SchedulePrediction). Layouts are
/// visited in the order of LayoutBound until the next one's bound is above the last of the best, so no layout
/// that is left out is faster. Of equal steps the one with less memory is first. Of layouts that differ only
/// in mtp.placement and have the same stages one is listed.
///
/// A layout is too large if it does not fit with even_layout(), which is checked first, or with the partition
/// of training. If all layouts that fit are fewer than options.top, too_large is the number of all others.
/// Throws a UsageError if no layout is legal.
RanksPlan plan_ranks(const Config& config, int ranks, const PlanOptions& options);

}  // namespace foretoken

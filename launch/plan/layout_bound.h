#pragma once
// A lower bound of a layout's step time, from which the planner knows which layouts need no simulation.

#include <map>
#include <string>
#include <tuple>

#include "launch/config/config.h"
#include "launch/config/device_times.h"
#include "launch/plan/layout_space.h"
#include "parallel/planning/links.h"
#include "parallel/planning/partition.h"
#include "runtime/tensor.h"

namespace foretoken {

/// One object serves layouts of one configuration. The configuration and the times must outlive it.
class LayoutBound {
 public:
  LayoutBound(const Config& config, const DeviceTimes& times, DeviceKind device, const Links& links);

  /// SchedulePrediction::seconds() with the costs of StepCostModel is never below this time, whatever the
  /// partition of the layers. The time is the sum of least_program_time(), the all-reduce of the norm, the
  /// longer one of update and gathers of a rank with the mean number of parameters, and DeviceTimes::host().
  double seconds(const PlanLayout& layout);

 private:
  const LayerCosts& layers_of(const PlanLayout& layout);
  double program_seconds(const PlanLayout& layout);
  double gather_seconds_per_byte(const PlanLayout& layout);

  const Config& config_;
  const DeviceTimes& times_;
  Links links_;
  double row_bytes_ = 0;     // of a message
  double weight_bytes_ = 0;  // of one parameter
  double trained_ = 0;       // parameters of the model that are updated
  std::map<std::tuple<std::int64_t, int, int, bool>, LayerCosts>
      layers_;                                     // by microbatch, recompute, placement, split backward
  std::map<std::pair<int, int>, double> gathers_;  // by pp and dp
  PlanLayout last_;           // the layout of last_program_, except the sharding of the optimizer
  double last_program_ = -1;  // s; negative: none
};

}  // namespace foretoken

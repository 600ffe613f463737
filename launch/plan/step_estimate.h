#pragma once
// Estimates a training step's time in a layout from the times of a device.

#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "launch/plan/device_rates.h"
#include "launch/profile/device_times.h"
#include "launch/session/session.h"
#include "parallel/planning/simulate.h"

namespace foretoken {

/// Times in seconds.
struct StepEstimate {
  double total = 0;
  double bubble = 0;         // share of the program's time in which ranks do not compute, mean over the ranks
  double communication = 0;  // exposed: messages, reduction and gather that make the step longer
  double optimizer = 0;
};

class StepEstimator {
 public:
  /// `rates` are those of the links.
  StepEstimator(const DeviceTimes& times, const DeviceRates& rates, int per_node)
      : times_(times), rates_(rates), per_node_(per_node) {}

  /// Simulates the program with messages. The reduction of gradients overlaps the last microbatch's backward
  /// only, and the gather of a sharded optimizer overlaps nothing. Of many microbatches a limited number is
  /// simulated; each further one adds the busiest rank's compute.
  StepEstimate estimate(const Config& config, const ModelLayout& layout);

 private:
  const Simulation& simulation(const std::string& schedule, const PipelineShape& shape);

  const DeviceTimes& times_;
  const DeviceRates& rates_;
  int per_node_;
  std::map<std::tuple<std::string, int, int, int>, std::unique_ptr<Simulation>> simulations_;
};

}  // namespace foretoken

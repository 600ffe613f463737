#pragma once
// The costs of a training step in a layout (parallel/planning/step_time.h): times from a device's times,
// sizes from the plan of parameters and buckets that training makes.

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "launch/config/device_times.h"
#include "launch/session/session.h"
#include "parallel/planning/step_time.h"

namespace foretoken {

/// Bytes of an activation or a gradient between two stages. All messages of a training step have this size.
double message_bytes(const Config& config, DeviceKind device);

/// Remembers the buckets of the layouts that it has seen. One object serves layouts of one configuration.
class StepCostModel {
 public:
  /// The times must outlive the object.
  explicit StepCostModel(const DeviceTimes& times) : times_(times) {}

  /// Uses the configuration and the layout of the plan, not its programs.
  StepCosts costs(const SessionPlan& plan);

 private:
  /// What a bucket holds; it does not depend on the costs of layers.
  struct BucketShape {
    int stage = 0;
    /// The gradients are final when the stage's backward has reached this half layer of the model; −1: at its
    /// end.
    int first_half = -1;
    std::int64_t elements = 0;  // 0: frozen
    bool canonical = true;
    std::vector<int> holders;
  };
  using RankBuckets = std::vector<BucketShape>;

  const std::vector<RankBuckets>& buckets_of(const SessionPlan& plan);
  static RankBuckets plan_buckets(const SessionPlan& plan, int pp_rank);

  const DeviceTimes& times_;
  std::unordered_map<std::string, std::vector<RankBuckets>> buckets_;
};

}  // namespace foretoken

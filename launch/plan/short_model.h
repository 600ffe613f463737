#pragma once
// A model with few layers on one rank, whose parts are stages of their own, so that each part is timed where
// training runs it: in the actions of a pipeline program.

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "launch/session/session.h"
#include "parallel/planning/stage_durations.h"

namespace foretoken {

class ShortModel {
 public:
  /// `depths_apart`: each depth has a stage after the main head's, as with mtp.placement "stage_per_depth".
  /// Throws a UsageError if the device has too little memory.
  ShortModel(Device& device, const Config& config, bool depths_apart);

  /// Runs a step of some microbatches. Discards its times.
  void warm_up();
  /// The same, and keeps its times.
  void run();

  /// A part's times: medians, and the spread of their sum.
  struct Times {
    StageDurations seconds;
    double spread = 0;
    std::int64_t repetitions = 0;
  };
  /// By the names of DeviceProfile::Part. Heads: "heads", or "main_head" and "depth_1", ...
  std::map<std::string, Times> parts() const;
  /// Medians over the steps, in seconds: the start of a step on the device, and the time of a step in which
  /// the device waits for the host.
  double start() const;
  double host() const;

  RankModel& model() { return *model_; }
  const SessionPlan& plan() const { return plan_; }

 private:
  struct Step {
    std::vector<std::vector<StageDurations>> stages;  // by stage, microbatch
    double start = 0;
    double host = 0;
  };
  Step step();
  Times times_of(const std::vector<int>& stages) const;

  Device& device_;
  SessionPlan plan_;
  std::unique_ptr<RankModel> model_;
  std::vector<std::int32_t> tokens_, document_starts_;
  std::vector<MicrobatchInput> inputs_;
  std::vector<double> gradient_scales_;
  std::vector<Step> steps_;
};

}  // namespace foretoken

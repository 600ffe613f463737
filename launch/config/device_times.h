#pragma once
// The times of one device, from which a training step's time is predicted: from a table of rates
// (launch/plan/rated_times.h) or measured.

#include <string>

#include "launch/config/config.h"
#include "parallel/planning/partition.h"

namespace foretoken {

/// All times are in seconds and hold for one rank on one device, without communication.
class DeviceTimes {
 public:
  virtual ~DeviceTimes() = default;

  /// The content of a profile file with these times; empty if they are not measured.
  virtual std::string profile_text() const = 0;
  /// Throws a UsageError unless the times hold for this device (device_identity(),
  /// launch/session/profile_on_ranks.h) with that number of threads.
  virtual void require_device(const std::string& device, int threads) const = 0;
  /// Times of one microbatch of train.microbatch rows in each layer, with train.recompute, mtp.placement and,
  /// for the split of backward, parallel.schedule as configured.
  virtual LayerCosts layers(const Config& config) const = 0;
  /// AdamW's update of a number of parameters.
  virtual double update(const Config& config, double parameters) const = 0;
  /// The sum of squares of the gradients of a number of parameters.
  virtual double gradient_norm(const Config& config, double parameters) const = 0;
  /// Work of a step outside of the pipeline program and the optimizer: the start of the step (zeroing
  /// gradients, FP8 copies of weights), reading data, exchanging and writing metrics.
  virtual double host(const Config& config) const = 0;
};

}  // namespace foretoken

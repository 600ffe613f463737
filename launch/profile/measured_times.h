#pragma once
// Times of a device from its profile.

#include <string>

#include "launch/config/device_times.h"
#include "launch/profile/device_profile.h"

namespace foretoken {

/// Times of rows between two measured numbers of rows are interpolated linearly; beyond the largest one they
/// are proportional to the rows, and below the smallest one they are those of the smallest.
class MeasuredTimes : public DeviceTimes {
 public:
  /// Checks that the profile was measured with the measured_settings() of this configuration. `name` is the
  /// file, for messages. Throws a UsageError that states the setting and both values, and for mtp.balance
  /// "sampling".
  MeasuredTimes(DeviceProfile profile, std::string name, const Config& config);

  const DeviceProfile& profile() const { return profile_; }

  std::string profile_text() const override { return to_json_text(profile_); }
  /// Throws a UsageError unless the profile was measured on such a device, with as many threads on a CPU.
  void require_device(const std::string& device, int threads) const override;
  /// Throws a UsageError if a part was not measured with train.recompute.
  LayerCosts layers(const Config& config) const override;
  double update(const Config&, double parameters) const override { return profile_.update * parameters; }
  double gradient_norm(const Config&, double parameters) const override {
    return profile_.gradient_norm * parameters;
  }
  double host(const Config& config) const override;

 private:
  StageDurations seconds(const std::string& part, const Config& config) const;

  DeviceProfile profile_;
  std::string name_;
};

}  // namespace foretoken

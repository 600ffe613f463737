#pragma once
// Times of a device from its rates (launch/plan/device_rates.h). launch/docs/plan.md states the method.

#include "launch/config/device_times.h"
#include "launch/plan/device_rates.h"

namespace foretoken {

/// A layer takes the FLOPs of launch/config/layout.h's estimated_costs() at the rate of products, and the
/// passes over memory of operators that work on rows. The optimizer takes its passes over memory. The host
/// takes no time.
class RatedTimes : public DeviceTimes {
 public:
  explicit RatedTimes(DeviceRates rates) : rates_(std::move(rates)) {}

  std::string profile_text() const override { return {}; }
  void require_device(const std::string&, int) const override {}
  LayerCosts layers(const Config& config) const override;
  double update(const Config& config, double parameters) const override;
  double gradient_norm(const Config& config, double parameters) const override;
  double host(const Config&) const override { return 0; }

 private:
  DeviceRates rates_;
};

}  // namespace foretoken

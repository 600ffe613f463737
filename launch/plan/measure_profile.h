#pragma once
// Measures the profile of this device for a configuration's shapes (launch/profile/device_profile.h).

#include <functional>
#include <string>

#include "launch/profile/device_profile.h"
#include "parallel/comm/mpi_communicator.h"

namespace foretoken {

/// Runs the stages of training, with a trunk of a few layers, on random tokens: with every mode of
/// train.recompute and every train.microbatch that the planner varies (unless --set fixes them) and that the
/// device has memory for. Then runs the optimizer. All ranks of the job measure at the same time, each on its
/// own device, and the result holds the means over them. `progress` receives a line per mode and microbatch.
/// Collective. Throws a UsageError if the configuration is illegal or nothing fits.
DeviceProfile measure_profile(MpiCommunicator& world, const Config& config,
                              const std::function<void(const std::string&)>& progress);

}  // namespace foretoken

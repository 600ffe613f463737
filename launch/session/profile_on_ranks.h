#pragma once
// The device profile of a run (parallel.profile), the same on every rank.

#include <string>

#include "launch/config/config.h"
#include "parallel/comm/communicator.h"
#include "runtime/device.h"

namespace foretoken {

/// The name by which a profile identifies its device: "NVIDIA H100 80GB HBM3", or "cpu" and the processor's
/// name: "cpu (AMD EPYC 9534 64-Core Processor)".
std::string device_identity(const Device& device);

/// Rank 0 reads the profile that the configuration names and sends it to the others, so that all ranks
/// assign layers to stages by the same times. Sets config.device_times; does nothing without
/// parallel.profile. Collective. Throws a DataError or UsageError, on all ranks, if the profile is damaged or
/// was measured with other settings.
void load_profile(Config& config, Communicator& world);
/// The same on one process.
void load_profile(Config& config);

/// The file in a run's folder that keeps the profile by which the run's layers were assigned.
std::string profile_of_run(const std::string& run);

}  // namespace foretoken

#pragma once
// The measurements of one rank. Those with a communicator are collective over the world.

#include <filesystem>
#include <map>
#include <string>

#include "launch/doctor/facts.h"
#include "parallel/comm/groups.h"
#include "runtime/device.h"

namespace foretoken {

/// Versions of this program and its libraries, by name: "foretoken", "commit", "build" (a digest of the
/// executable), "for" (backends), "MPI", "HDF5", "CUDA", "driver". A name without a value is left out.
std::map<std::string, std::string> program_versions(const Nvml& nvml);

/// Limits and cores of this process and its host.
HostFacts host_facts(int threads);

/// Rates of the device, while all ranks measure. The best of several repetitions counts, each longer than a
/// time slice of the scheduler, so that a device that another program always uses shows its reduced rate.
DeviceFacts measure_device(Device& device, const Nvml& nvml, MpiCommunicator& world);

/// Messages and all-reduces of the groups of a layout; sets RankFacts' links and groups.
void measure_links(Groups& groups, Stream& stream, RankFacts& facts);

/// Compares the clock of the first rank of each host with that of rank 0.
std::optional<ClockOffset> measure_clock(MpiCommunicator& world);

/// Checks that all ranks see the folder of rank 0 under the same path and can write to it, and measures how
/// fast. A run folder that does not exist yet is replaced by its nearest existing parent. Leaves no file.
FolderFacts measure_folder(const std::filesystem::path& run, MpiCommunicator& world);

}  // namespace foretoken

#pragma once
// What a run computed on: RUN/machine.json, written when a launch starts training.

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace foretoken {

class Session;

struct MachineRecord {
  struct Host {
    std::string name;
    int ranks = 0;
    int threads = 0;  // of all its ranks
    int cores = 0;    // that its ranks may use together
    std::string device;
    int devices = 0;  // that its ranks use: GPUs, or 1 for "cpu"
    // The lowest of its GPUs when the launch started; empty on the CPU and without NVML.
    std::optional<int> clock, highest_clock;  // MHz
    std::optional<double> power_limit;        // watts
  };
  std::map<std::string, std::string> versions;  // program_versions() of rank 0
  std::string transport;  // of GPU ranks: "NCCL 2.21.5"; empty on one rank and on CPU ranks
  std::vector<Host> hosts;

  /// Why the ranks do not have a device or core of their own: "4 ranks on 2 cores", "2 ranks on 1 GPU";
  /// empty if they have.
  std::string sharing() const;
};

/// Writes the file on rank 0. Collective.
void write_machine_record(Session& session, const std::string& run);

/// Nothing if the run has no such file. Throws a DataError if it is damaged.
std::optional<MachineRecord> read_machine_record(const std::string& run);

}  // namespace foretoken

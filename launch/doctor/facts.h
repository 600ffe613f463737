#pragma once
// What `foretoken doctor` finds out, before it is judged. Plain structs, so that tests can plant facts.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "parallel/comm/link_rates.h"
#include "runtime/host/nvml.h"

namespace foretoken {

/// A soft limit of a process; -1: unlimited.
struct ProcessLimits {
  std::int64_t open_files = -1;
  std::int64_t locked_memory = -1;  // bytes
  std::int64_t core_file = -1;      // bytes
  std::int64_t stack = -1;          // bytes
};

struct HostFacts {
  std::string name;
  std::vector<int> cores;  // that this rank may run on
  int machine_cores = 0;   // of the whole machine
  int threads = 1;         // that this rank computes with
  ProcessLimits limits;
  std::int64_t shared_memory = 0;  // size of /dev/shm in bytes; 0: there is none
};

struct DeviceFacts {
  std::string name;         // "cpu", "NVIDIA H100 80GB HBM3"
  std::string pci_address;  // empty on the CPU
  int visible_gpus = 0;
  int machine_gpus = 0;           // as NVML counts them
  std::string nvml_problem;       // why there is no state
  std::optional<GpuState> state;  // under load
  double matrix_rate = 0;         // FLOP/s of large matrix products
  double core_share = 1;          // of the products' time, in which the threads ran on a core (CPU)
  double memory_bandwidth = 0;    // bytes/s, read and written
};

struct FolderFacts {
  std::string path;     // the folder that was checked: the run folder, or the parent that exists
  std::string problem;  // why the folder cannot be used; empty if it can
  bool shared = false;  // this rank sees the file that rank 0 created
  std::string file_system;
  std::int64_t free_bytes = 0;
  double write_rate = 0;  // bytes/s of this rank, while all ranks write; with fsync
  bool hard_links = false;
  bool locks = false;
};

struct GroupRate {
  std::string name;        // "world", "data parallel", "shared weights"
  int first = 0;           // the group's first rank
  std::vector<int> ranks;  // all of them, in the facts of the first rank only
  Link rate;
};

struct RankFacts {
  std::map<std::string, std::string> versions;  // "MPI": "Open MPI v4.1.4"
  HostFacts host;
  DeviceFacts device;
  std::optional<ClockOffset> clock;  // for one rank of each host
  int next_rank = -1;                // next rank of the pipeline; -1: none
  Link next;                         // to next_rank
  std::vector<GroupRate> groups;
  std::optional<FolderFacts> folder;  // empty without --run
};

struct JobFacts {
  std::string layout;    // "pp 2 × dp 1 × v 1"
  bool measured = true;  // false if the ranks' programs differ, so that they cannot measure together
  std::vector<RankFacts> ranks;
};

}  // namespace foretoken

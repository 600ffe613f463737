#include <cstdint>
#include <fstream>
#include <iterator>
#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <thread>
#include <unistd.h>

#include "io/files/digest.h"
#include "io/hdf5/hdf5.h"
#include "launch/doctor/commit.h"
#include "launch/doctor/measure.h"
#include "parallel/comm/mpi_world.h"
#include "runtime/backend.h"

namespace foretoken {

namespace {

std::int64_t soft_limit(int resource) {
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return -1;
  return static_cast<std::int64_t>(limit.rlim_cur);
}

/// Example: "91c04e7a…"; "unknown" if the executable cannot be read.
std::string digest_of_program() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  return bytes.empty() ? "unknown" : abbreviated(digest_of(bytes));
}

std::vector<int> usable_cores() {
  std::vector<int> cores;
  // The set for more cores than cpu_set_t holds is allocated in the size that the kernel accepts.
  for (int most = CPU_SETSIZE; most <= (1 << 20); most *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(most));
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(most));
    const bool read = set != nullptr && sched_getaffinity(0, bytes, set) == 0;
    for (int core = 0; read && core < most; ++core)
      if (CPU_ISSET_S(static_cast<std::size_t>(core), bytes, set)) cores.push_back(core);
    CPU_FREE(set);
    if (read) break;
  }
  return cores;
}

}  // namespace

std::map<std::string, std::string> program_versions(const Nvml& nvml) {
  std::map<std::string, std::string> versions{{"foretoken", FORETOKEN_VERSION},
                                              {"commit", commit()},
                                              {"build", digest_of_program()},
                                              {"for", !with_cuda             ? "CPU"
                                                      : FORETOKEN_WITH_CUDNN ? "CPU, CUDA and cuDNN"
                                                                             : "CPU and CUDA"},
                                              {"MPI", MpiWorld::library()},
                                              {"HDF5", hdf5_version()},
                                              {"CUDA", Device::cuda_version()},
                                              {"driver", nvml.driver_version()}};
  std::erase_if(versions, [](const auto& version) { return version.second.empty(); });
  return versions;
}

HostFacts host_facts(int threads) {
  HostFacts facts{.cores = usable_cores(),
                  .machine_cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)),
                  .threads = threads,
                  .limits = {.open_files = soft_limit(RLIMIT_NOFILE),
                             .locked_memory = soft_limit(RLIMIT_MEMLOCK),
                             .core_file = soft_limit(RLIMIT_CORE),
                             .stack = soft_limit(RLIMIT_STACK)}};
  std::string name(256, '\0');
  gethostname(name.data(), name.size() - 1);
  facts.name = name.c_str();
  struct statvfs memory {};
  if (statvfs("/dev/shm", &memory) == 0)
    facts.shared_memory = static_cast<std::int64_t>(memory.f_blocks * memory.f_frsize);
  return facts;
}

}  // namespace foretoken

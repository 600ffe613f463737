// Simulates a disk on which every fsync takes a given time. Loaded into a rank with LD_PRELOAD; settings are
// environment variables:
//   SLOW_DISK_RANK          rank of the job with the slow disk
//   SLOW_DISK_MILLISECONDS  time of one fsync

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <thread>

extern "C" int fsync(int descriptor) {
  using Fsync = int (*)(int);
  static const auto original = reinterpret_cast<Fsync>(dlsym(RTLD_NEXT, "fsync"));
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  const char* slow = std::getenv("SLOW_DISK_RANK");
  const char* milliseconds = std::getenv("SLOW_DISK_MILLISECONDS");
  if (rank && slow && milliseconds && std::strcmp(rank, slow) == 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(std::atoi(milliseconds)));
  return original(descriptor);
}

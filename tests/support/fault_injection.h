#pragma once
// Injects faults: processes that die, full disks, corrupt files.

#include <csignal>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <pthread.h>
#include <sched.h>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace foretoken {

/// Forks a process that runs `body`. The child never returns into the test: it exits with 0, with 1 and the
/// message on stderr if body throws, or by a signal.
inline pid_t start_child(const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child > 0) return child;
  int code = 0;
  try {
    body();
  } catch (const std::exception& error) {
    const std::string line = std::string("child: ") + error.what() + "\n";
    code = ::write(STDERR_FILENO, line.data(), line.size()) < 0 ? 2 : 1;
  }
  ::_exit(code);
}

/// Waits for a child and returns its wait status.
inline int wait_for(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) throw std::runtime_error("cannot wait for a child");
  return status;
}

/// A barrier between processes that are forked after its construction.
class ProcessBarrier {
 public:
  explicit ProcessBarrier(unsigned count) {
    void* memory =
        ::mmap(nullptr, sizeof(pthread_barrier_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("cannot map a barrier");
    barrier_ = static_cast<pthread_barrier_t*>(memory);
    pthread_barrierattr_t attributes;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(barrier_, &attributes, count);
    pthread_barrierattr_destroy(&attributes);
  }
  // Does not call pthread_barrier_destroy(), which would wait for processes that died in the barrier.
  ~ProcessBarrier() { ::munmap(barrier_, sizeof(pthread_barrier_t)); }
  ProcessBarrier(const ProcessBarrier&) = delete;
  ProcessBarrier& operator=(const ProcessBarrier&) = delete;

  void wait() { pthread_barrier_wait(barrier_); }

 private:
  pthread_barrier_t* barrier_;
};

inline void flip_byte(const std::filesystem::path& file, std::int64_t position) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(position);
  const int byte = stream.get();
  stream.seekp(position);
  stream.put(static_cast<char>(byte ^ 0x10));
  stream.close();
  if (!stream) throw std::runtime_error("cannot flip a byte of " + file.string());
}

/// In a child: mounts a disk of this size on `directory`. Returns false if the system does not permit it.
inline bool mount_small_disk(const std::filesystem::path& directory, std::int64_t bytes) {
  const std::string size = "size=" + std::to_string(bytes);
  return ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", directory.c_str(), "tmpfs", 0, size.c_str()) == 0;
}

/// In a child: limits the size of every file.
inline void limit_file_size(std::int64_t bytes) {
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{static_cast<rlim_t>(bytes), static_cast<rlim_t>(bytes)};
  if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) throw std::runtime_error("cannot limit the file size");
}

}  // namespace foretoken

// Preloaded into a process (LD_PRELOAD): a folder with what network file systems lack.
//   NETWORK_DISK_BELOW  folder
// No hard links, no flock. stat() of a name that this process has seen succeeds after another process has
// removed it. A removed file that a process of this host has open keeps a name, ".nfs...", until
// it is closed, as in the NFS client; removing that name fails with EBUSY.

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <fcntl.h>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>

namespace {

namespace fs = std::filesystem;

template <class Function>
Function original(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

std::string link_target(const std::string& link) {
  char path[PATH_MAX];
  const ssize_t length = readlink(link.c_str(), path, sizeof path);
  return {path, static_cast<std::size_t>(std::max<ssize_t>(length, 0))};
}

/// Absolute path of a name that is relative to an open folder.
std::string absolute(int folder, const char* name) {
  if (name[0] == '/') return name;
  return link_target(folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/" + std::to_string(folder)) +
         "/" + name;
}

bool on_network_disk(const std::string& path) {
  const char* below = std::getenv("NETWORK_DISK_BELOW");
  return below && path.starts_with(below);
}

/// Whether a process, this one included, has the file open.
bool is_open(const std::string& path) {
  std::error_code error;
  for (fs::directory_iterator process("/proc", error), end; process != end; process.increment(error)) {
    const fs::path descriptors = process->path() / "fd";
    std::error_code gone;
    for (fs::directory_iterator file(descriptors, gone); !gone && file != end; file.increment(gone))
      if (link_target(file->path()) == path) return true;
  }
  return false;
}

std::mutex cache_mutex;
std::map<std::string, struct stat>& cache() {
  static auto* map = new std::map<std::string, struct stat>;  // used until the process has ended
  return *map;
}

void forget(const std::string& path) {
  const std::lock_guard lock(cache_mutex);
  cache().erase(path);
}

int unlink_below(int folder, const char* name, int flags) {
  const std::string path = absolute(folder, name);
  forget(path);
  if (flags == 0 && on_network_disk(path)) {
    const fs::path file(path);
    if (is_open(path)) {
      if (file.filename().string().starts_with(".nfs")) {
        errno = EBUSY;
        return -1;
      }
      static int number = 0;
      const std::string kept = ".nfs" + std::to_string(getpid()) + "_" + std::to_string(number++);
      return std::rename(path.c_str(), (file.parent_path() / kept).c_str());
    }
  }
  return original<int (*)(int, const char*, int)>("unlinkat")(folder, name, flags);
}

}  // namespace

extern "C" {

int stat(const char* name, struct stat* status) noexcept {
  const int result = original<int (*)(const char*, struct stat*)>("stat")(name, status);
  const std::string path = absolute(AT_FDCWD, name);
  if (!on_network_disk(path)) return result;
  const std::lock_guard lock(cache_mutex);
  if (result == 0)
    cache()[path] = *status;
  else if (const auto found = cache().find(path); errno == ENOENT && found != cache().end()) {
    *status = found->second;
    return 0;
  }
  return result;
}

int rename(const char* from, const char* to) noexcept {
  forget(absolute(AT_FDCWD, from));
  return original<int (*)(const char*, const char*)>("rename")(from, to);
}

int rmdir(const char* name) noexcept {
  forget(absolute(AT_FDCWD, name));
  return original<int (*)(const char*)>("rmdir")(name);
}

int link(const char* from, const char* to) {
  if (on_network_disk(absolute(AT_FDCWD, to))) {
    errno = EPERM;
    return -1;
  }
  return original<int (*)(const char*, const char*)>("link")(from, to);
}

int flock(int descriptor, int operation) {
  if (on_network_disk(link_target("/proc/self/fd/" + std::to_string(descriptor)))) {
    errno = ENOTSUP;
    return -1;
  }
  return original<int (*)(int, int)>("flock")(descriptor, operation);
}

int close(int descriptor) {
  const std::string path = link_target("/proc/self/fd/" + std::to_string(descriptor));
  const int result = original<int (*)(int)>("close")(descriptor);
  if (on_network_disk(path) && fs::path(path).filename().string().starts_with(".nfs") && !is_open(path))
    original<int (*)(int, const char*, int)>("unlinkat")(AT_FDCWD, path.c_str(), 0);
  return result;
}

int unlinkat(int folder, const char* name, int flags) {
  return unlink_below(folder, name, flags);
}

int unlink(const char* name) {
  return unlink_below(AT_FDCWD, name, 0);
}

int remove(const char* name) {
  std::error_code ignored;
  return unlink_below(AT_FDCWD, name, fs::is_directory(name, ignored) ? AT_REMOVEDIR : 0);
}
}

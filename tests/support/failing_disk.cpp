// Simulates a disk on which one call, or that call and all later ones, fail. Loaded with LD_PRELOAD; settings
// are environment variables:
//   FAILING_DISK_CALL   open, write, sync, rename, mkdir, or read
//   FAILING_DISK_NTH    first call that fails, counted from 1 among the calls inside the folder
//   FAILING_DISK_ERROR  errno
//   FAILING_DISK_ONCE   if set, only that call fails
//   FAILING_DISK_BELOW  folder

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

namespace {

std::atomic<int> calls{0};

bool fails(const char* call, const char* path) {
  const char* wanted = std::getenv("FAILING_DISK_CALL");
  const char* below = std::getenv("FAILING_DISK_BELOW");
  if (!wanted || !below || std::strcmp(call, wanted) != 0 ||
      std::strncmp(path, below, std::strlen(below)) != 0)
    return false;
  const int first = std::atoi(std::getenv("FAILING_DISK_NTH")), now = ++calls;
  if (now < first || (now > first && std::getenv("FAILING_DISK_ONCE"))) return false;
  errno = std::atoi(std::getenv("FAILING_DISK_ERROR"));
  return true;
}

bool fails(const char* call, int descriptor) {
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  char path[4096];
  const ssize_t length = readlink(link.c_str(), path, sizeof path - 1);
  if (length < 0) return false;
  path[length] = 0;
  return fails(call, path);
}

template <class Function>
Function original(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if ((flags & O_ACCMODE) != O_RDONLY && fails("open", path)) return -1;
  return original<int (*)(const char*, int, mode_t)>("open")(path, flags, mode);
}

ssize_t write(int descriptor, const void* data, size_t bytes) {
  if (fails("write", descriptor)) return -1;
  return original<ssize_t (*)(int, const void*, size_t)>("write")(descriptor, data, bytes);
}

ssize_t pwrite(int descriptor, const void* data, size_t bytes, off_t offset) {
  if (fails("write", descriptor)) return -1;
  return original<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite")(descriptor, data, bytes, offset);
}

ssize_t read(int descriptor, void* data, size_t bytes) {
  if (fails("read", descriptor)) return -1;
  return original<ssize_t (*)(int, void*, size_t)>("read")(descriptor, data, bytes);
}

ssize_t pread(int descriptor, void* data, size_t bytes, off_t offset) {
  if (fails("read", descriptor)) return -1;
  return original<ssize_t (*)(int, void*, size_t, off_t)>("pread")(descriptor, data, bytes, offset);
}

int fsync(int descriptor) {
  return fails("sync", descriptor) ? -1 : original<int (*)(int)>("fsync")(descriptor);
}

int rename(const char* from, const char* to) {
  return fails("rename", to) ? -1 : original<int (*)(const char*, const char*)>("rename")(from, to);
}

int mkdir(const char* path, mode_t mode) {
  return fails("mkdir", path) ? -1 : original<int (*)(const char*, mode_t)>("mkdir")(path, mode);
}

// On a 64-bit system both forms of a call have 64-bit offsets, so one function serves both.
static_assert(sizeof(off_t) == sizeof(off64_t));
int open64(const char* path, int flags, ...) __attribute__((alias("open")));
ssize_t pwrite64(int descriptor, const void* data, size_t bytes, off64_t offset)
    __attribute__((alias("pwrite")));
ssize_t pread64(int descriptor, void* data, size_t bytes, off64_t offset) __attribute__((alias("pread")));

}  // extern "C"

#include "io/files/file_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "io/files/digest.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

struct stat status_of(int descriptor, const std::filesystem::path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0)
    throw DataError("{}: cannot be read: {}", path.string(), std::strerror(errno));
  return status;
}

/// Describes a path that is not a regular file.
const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

}  // namespace

FileReader::FileReader(std::filesystem::path path) : path_(std::move(path)) {
  // O_NONBLOCK: opening a pipe must not wait for a writer.
  const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    if (errno == ENOENT) throw DataError("{}: there is no such file", path_.string());
    throw DataError("{}: cannot be opened: {}", path_.string(), std::strerror(errno));
  }
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw DataError("{}: is {}, expected a file", path_.string(), kind_of(status.st_mode));
  }
  descriptor_ = descriptor;
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

FileReader::~FileReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::int64_t FileReader::size() const {
  return status_of(descriptor_, path_).st_size;
}

FileReader::State FileReader::state() const {
  const struct stat status = status_of(descriptor_, path_);
  return {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

void FileReader::read(std::int64_t begin, std::span<std::byte> out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t count =
        ::pread(descriptor_, out.data() + done, out.size() - done, begin + static_cast<std::int64_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw DataError("{}: cannot be read: {}", path_.string(), std::strerror(errno));
    if (count == 0)
      throw DataError("{}: truncated: expected bytes [{}, {}), but the file ends at {}", path_.string(),
                      begin, begin + static_cast<std::int64_t>(out.size()),
                      begin + static_cast<std::int64_t>(done));
    done += static_cast<std::size_t>(count);
  }
}

std::string digest_outside(const FileReader& file, std::vector<Range> inside, std::int64_t end) {
  std::sort(inside.begin(), inside.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  inside.push_back({end, end});
  DigestStream stream;
  std::vector<std::byte> buffer(1 << 20);
  std::int64_t position = 0;
  for (const Range& range : inside) {
    while (position < range.begin) {
      const std::span<std::byte> part(
          buffer.data(), std::min(buffer.size(), static_cast<std::size_t>(range.begin - position)));
      file.read(position, part);
      stream.add(part);
      position += static_cast<std::int64_t>(part.size());
    }
    position = std::max(position, range.end);
  }
  return stream.digest();
}

}  // namespace foretoken

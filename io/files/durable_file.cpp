#include "io/files/durable_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <random>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "io/files/digest.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t longest_name = 255;
constexpr int names_tried = 100;

[[noreturn]] void fail(const fs::path& path, const char* what, int error) {
  throw DataError("{}: {}: {}", path.string(), what, std::strerror(error));
}

/// Returns 0, or errno of the failed call.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written >= 0)
      text.remove_prefix(static_cast<std::size_t>(written));
    else if (errno != EINTR)
      return errno;
  }
  return 0;
}

/// Eight hexadecimal digits.
const std::string& host_mark() {
  static const std::string mark = [] {
    char name[256] = {};
    ::gethostname(name, sizeof name - 1);
    return digest_of(std::string_view(name)).substr(0, 8);
  }();
  return mark;
}

constexpr std::string_view suffix = ".tmp";
constexpr std::size_t random_letters = 6;

/// Example: ".data.h5.5f3a9c1e-", the prefix of this host's temporary files for an output.
std::string temporary_prefix(const fs::path& output) {
  const std::string tail = fmt::format(".{}-", host_mark());
  const std::size_t room = longest_name - 1 - tail.size() - random_letters - suffix.size();
  return fmt::format(".{}{}", output.filename().string().substr(0, room), tail);
}

std::string random_name() {
  static constexpr std::string_view letters = "0123456789abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ";
  std::random_device random;
  std::uniform_int_distribution<std::size_t> letter(0, letters.size() - 1);
  std::string name;
  for (std::size_t i = 0; i < random_letters; ++i) name += letters[letter(random)];
  return name;
}

/// The file that a write to `path` replaces. Throws a DataError for a folder or a device, which a rename
/// would replace.
fs::path resolved_output(const fs::path& path) {
  std::error_code error;
  const fs::path output = fs::is_symlink(path, error) ? fs::weakly_canonical(path, error) : path;
  const fs::file_status status = fs::status(output, error);
  if (fs::is_directory(status)) throw DataError("{}: is a folder, expected a file", path.string());
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw DataError("{}: is a device or a pipe, expected a file", path.string());
  return output;
}

/// Creates and locks a unique file beside the output; returns its descriptor. The lock distinguishes files in
/// use from those of killed processes; on file systems without locks, the file of a running process is never
/// removed.
int create_beside(const fs::path& output, fs::path& path) {
  for (int i = 0; i < names_tried; ++i) {
    path = folder_of(output) / (temporary_prefix(output) + random_name() + std::string(suffix));
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0 && errno == EEXIST) continue;
    if (descriptor < 0) fail(output, "cannot be written", errno);
    // Between open() and flock() another writer may have taken the file for an abandoned one: it has removed
    // the file, or it holds the lock and is about to.
    const bool taken = ::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    struct stat status {};
    if (!taken && ::fstat(descriptor, &status) == 0 && status.st_nlink > 0) return descriptor;
    ::close(descriptor);
  }
  throw DataError("{}: cannot be written: all {} names tried for a temporary file exist already",
                  output.string(), names_tried);
}

void remove_abandoned(const fs::path& output) {
  const std::string prefix = temporary_prefix(output);
  std::error_code error;
  for (fs::directory_iterator it(folder_of(output), error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.size() != prefix.size() + random_letters + suffix.size() || !name.starts_with(prefix) ||
        !name.ends_with(suffix))
      continue;
    const int descriptor = ::open(it->path().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor < 0) continue;
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) ::unlink(it->path().c_str());
    ::close(descriptor);
  }
}

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail(folder, "cannot be synced to disk", errno);
  // Some network file systems cannot sync a folder; there a rename is as durable as the file system makes
  // it.
  const int error = ::fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : errno;
  ::close(descriptor);
  if (error != 0) fail(folder, "cannot be synced to disk", error);
}

}  // namespace

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

void sync_to_disk(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return sync_folder(path);
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(path, "cannot be synced to disk", errno);
  const int error = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  if (error != 0) fail(path, "cannot be synced to disk", error);
}

void write_durably(const fs::path& path, std::string_view text) {
  const fs::path output = resolved_output(path);
  fs::path temporary;
  const int descriptor = create_beside(output, temporary);
  int error = write_all(descriptor, text);
  if (error == 0 && ::fsync(descriptor) != 0) error = errno;
  if (::close(descriptor) != 0 && error == 0) error = errno;
  if (error == 0 && ::rename(temporary.c_str(), output.c_str()) != 0) error = errno;
  if (error != 0) {
    ::unlink(temporary.c_str());
    fail(path, "cannot be written", error);
  }
  sync_folder(folder_of(output));
}

PendingFile::PendingFile(const fs::path& output) : output_(resolved_output(output)) {
  remove_abandoned(output_);
  descriptor_ = create_beside(output_, path_);
}

PendingFile::~PendingFile() {
  if (descriptor_ < 0) return;
  ::unlink(path_.c_str());
  ::close(descriptor_);
}

void PendingFile::publish() {
  if (::fsync(descriptor_) != 0) fail(output_, "cannot be synced to disk", errno);
  if (::rename(path_.c_str(), output_.c_str()) != 0) fail(output_, "cannot be written", errno);
  ::close(descriptor_);
  descriptor_ = -1;
  sync_folder(folder_of(output_));
}

AppendedFile::AppendedFile(const fs::path& path) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0 && errno == EACCES)  // a pipe or a write-only device
    descriptor_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0) fail(path_, "cannot be opened", errno);
  const off_t size = ::lseek(descriptor_, 0, SEEK_END);
  char last = '\n';
  torn_ = size > 0 && ::pread(descriptor_, &last, 1, size - 1) == 1 && last != '\n';
}

AppendedFile::~AppendedFile() {
  ::close(descriptor_);
}

void AppendedFile::append(std::string_view line) {
  std::string text = torn_ ? "\n" : "";
  write_whole(text.append(line).append("\n"));
}

void AppendedFile::append_bytes(std::string_view bytes) {
  if (torn_) throw DataError("{}: cannot be written: the file ends in an incomplete record", path_.string());
  write_whole(bytes);
}

void AppendedFile::write_whole(std::string_view bytes) {
  const off_t before = ::lseek(descriptor_, 0, SEEK_END);
  if (const int error = write_all(descriptor_, bytes); error != 0) {
    if (before >= 0 && ::ftruncate(descriptor_, before) != 0) torn_ = true;
    fail(path_, "cannot be written", error);
  }
  torn_ = false;
}

void AppendedFile::sync() {
  // A pipe or a device cannot be synced, so these errors are ignored.
  if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != ENOTSUP && errno != EROFS)
    fail(path_, "cannot be synced to disk", errno);
  sync_folder(folder_of(path_));  // the file may be new
}

}  // namespace foretoken

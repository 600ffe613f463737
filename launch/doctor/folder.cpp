#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <map>
#include <sys/file.h>
#include <sys/statfs.h>
#include <system_error>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

#include "launch/doctor/measure.h"
#include "launch/session/agreement.h"
#include "runtime/random.h"

namespace foretoken {

namespace fs = std::filesystem;

namespace {

constexpr double longest_write = 3;  // seconds, without fsync
constexpr std::int64_t block = std::int64_t{4} << 20;
constexpr std::int64_t most_by_rank = std::int64_t{64} << 20, most_by_all = std::int64_t{4} << 30;

/// Removes a file at the end.
struct Scratch {
  fs::path path;
  ~Scratch() {
    std::error_code ignored;
    fs::remove(path, ignored);
  }
};

std::string write_failed(const fs::path& file) {
  return fmt::format("writing to {} failed: {}", file.parent_path().string(), std::strerror(errno));
}

std::string name_of_file_system(const fs::path& folder) {
  // Magic numbers of linux/magic.h and of the file systems' own sources.
  static const std::map<std::uint32_t, const char*> names{
      {0xef53, "ext4"},       {0x58465342, "xfs"},   {0x9123683e, "btrfs"},   {0x01021994, "tmpfs"},
      {0x858458f6, "ramfs"},  {0x6969, "nfs"},       {0x0bd00bd0, "lustre"},  {0x47504653, "gpfs"},
      {0x19830326, "beegfs"}, {0x00c36400, "ceph"},  {0x794c7630, "overlay"}, {0x2fc12fc1, "zfs"},
      {0xff534d42, "cifs"},   {0xfe534d42, "smb2"},  {0x65735546, "fuse"},    {0x01021997, "9p"},
      {0x9fa0, "proc"},       {0x62656572, "sysfs"}, {0x6a656a63, "virtiofs"}};
  struct statfs info {};
  if (::statfs(folder.c_str(), &info) != 0) return "unknown file system";
  const auto type = static_cast<std::uint32_t>(info.f_type);
  const auto name = names.find(type);
  return name == names.end() ? fmt::format("file system 0x{:x}", type) : name->second;
}

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Writes and syncs a file. Returns an error message; empty if all is well.
std::string write_file(const fs::path& path, std::int64_t bytes, double& rate) {
  std::vector<std::uint64_t> noise(static_cast<std::size_t>(block) / sizeof(std::uint64_t));
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = mix64(i);  // a file system may compress
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0) return write_failed(path);
  const auto begin = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  std::string error;
  std::int64_t written = 0;
  while (error.empty() && written < bytes && seconds() < longest_write) {
    const auto count = ::write(descriptor, noise.data(), static_cast<std::size_t>(block));
    if (count < 0 && errno != EINTR) error = write_failed(path);
    if (count > 0) written += count;
  }
  if (error.empty() && ::fsync(descriptor) != 0) error = write_failed(path);
  rate = static_cast<double>(written) / std::max(seconds(), 1e-9);
  ::close(descriptor);
  return error;
}

bool can_lock(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return false;
  const bool locked = ::flock(descriptor, LOCK_EX | LOCK_NB) == 0;
  ::close(descriptor);
  return locked;
}

/// Number of names at the end of the path that do not exist yet. The folder before them must exist.
std::int32_t missing_names(fs::path path) {
  std::int32_t missing = 0;
  std::error_code ignored;
  while (path.has_relative_path() && !fs::exists(path, ignored)) {
    path = path.parent_path();
    ++missing;
  }
  return missing;
}

/// Creates a file with this text. Returns an error message; empty if all is well.
std::string create_file(const fs::path& path, const std::string& text) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool written =
      descriptor >= 0 && ::write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const std::string why = written ? "" : write_failed(path);
  if (descriptor >= 0) ::close(descriptor);
  return why;
}

/// Waits until this rank sees the text in the file: a network file system may show a new file late.
bool appears(const fs::path& path, const std::string& text) {
  return poll_until(Seconds(5), [&] { return content_of(path) == text; });
}

}  // namespace

FolderFacts measure_folder(const fs::path& run, MpiCommunicator& world) {
  std::error_code error;
  fs::path folder = fs::absolute(run, error).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // of "runs/first/"
  std::array<std::int32_t, 1> missing{missing_names(folder)};
  world.broadcast(tensor_over<std::int32_t>(missing, {1}), 0);
  for (std::int32_t i = 0; i < missing[0]; ++i) folder = folder.parent_path();

  FolderFacts facts{.path = folder.string(), .file_system = name_of_file_system(folder)};
  if (!fs::is_directory(folder, error)) facts.problem = fmt::format("{} is not a folder", facts.path);
  if (const fs::space_info space = fs::space(folder, error); !error)
    facts.free_bytes = static_cast<std::int64_t>(space.available);

  const std::string token = broadcast_text(
      world, fmt::format("{:016x}", mix64(static_cast<std::uint64_t>(
                                              std::chrono::system_clock::now().time_since_epoch().count()) ^
                                          static_cast<std::uint64_t>(getpid()))));
  const Scratch seen{folder / (".foretoken-doctor-" + token)};
  if (world.rank() == 0 && facts.problem.empty()) facts.problem = create_file(seen.path, token);
  const std::string of_root = broadcast_text(world, facts.problem);
  if (of_root.empty() && facts.problem.empty()) facts.shared = appears(seen.path, token);

  const Scratch own{folder / fmt::format(".foretoken-doctor-{}-{}", token, world.rank())};
  const Scratch link{fs::path(own.path).concat("-link")};
  world.barrier();
  if (facts.problem.empty()) {
    const std::int64_t bytes = std::clamp(most_by_all / world.size(), block, most_by_rank);
    facts.problem = write_file(own.path, bytes, facts.write_rate);
    facts.hard_links = ::link(own.path.c_str(), link.path.c_str()) == 0;
    facts.locks = can_lock(own.path);
  }
  world.barrier();  // rank 0 removes the file that all ranks look for
  return facts;
}

}  // namespace foretoken

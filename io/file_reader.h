#pragma once
// Reads a file by position, without HDF5 and without its locks.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "parallel/shard.h"

namespace foretoken {

/// An open regular file. Reads from any thread. What goes wrong is a DataError that names the file.
class FileReader {
 public:
  /// DataError where the path is missing, unreadable or no regular file (a pipe is refused, not waited for).
  explicit FileReader(std::filesystem::path path);
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&&) = delete;
  ~FileReader();

  const std::filesystem::path& path() const { return path_; }
  /// Bytes that the file has now.
  std::int64_t size() const;
  /// Bytes [begin, begin + out.size()). DataError where the file ends before.
  void read(std::int64_t begin, std::span<std::byte> out) const;

  /// What changes when the file is written to or cut: size and time of the last modification.
  struct State {
    std::int64_t size = 0;
    std::int64_t modified_seconds = 0;
    std::int64_t modified_nanoseconds = 0;
    friend bool operator==(const State&, const State&) = default;
  };
  State state() const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// Digest of the bytes [0, end) of a file that lie in none of the ranges `inside`.
std::string digest_outside(const FileReader& file, std::vector<Range> inside, std::int64_t end);

}  // namespace foretoken

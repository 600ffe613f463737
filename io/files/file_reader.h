#pragma once
// Reads bytes of a file at an offset. HDF5 is not used, so no file lock is taken.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "parallel/optimizer/shard.h"

namespace foretoken {

/// An open regular file. Reads are possible from any thread. Failures are DataErrors that name the file.
class FileReader {
 public:
  /// Throws a DataError if the path is missing, unreadable or not a regular file (a pipe is refused without
  /// waiting).
  explicit FileReader(std::filesystem::path path);
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&&) = delete;
  ~FileReader();

  const std::filesystem::path& path() const { return path_; }
  /// Current size of the file in bytes.
  std::int64_t size() const;
  /// Reads bytes [begin, begin + out.size()). Throws a DataError if the file ends earlier.
  void read(std::int64_t begin, std::span<std::byte> out) const;

  /// Changes if the file is written to or truncated: size and modification time.
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

/// Digest of the bytes [0, end) of a file that are in none of the ranges `inside`.
std::string digest_outside(const FileReader& file, std::vector<Range> inside, std::int64_t end);

}  // namespace foretoken

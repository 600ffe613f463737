#pragma once
// Text from files and folders, one document per file, in pieces of bounded size.
//
// Order: the paths as given. A folder is walked depth-first with entries sorted by the bytes of their names,
// so every machine reads the same sequence. Links are followed. A file or folder that is reached a second
// time (by a link, a hard link, or because it was named twice) is skipped, so cycles of links end.
//
// Skipped and counted: empty files; binary files (a NUL byte in the first 8 KiB); unreadable files (no
// permission, dangling links, devices and pipes), each of which is reported.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace foretoken {

class TextSource {
 public:
  struct Skipped {
    std::int64_t empty = 0;
    std::int64_t binary = 0;
    std::int64_t unreadable = 0;
    std::int64_t repeated = 0;
  };
  using Report = std::function<void(const std::string& message)>;

  /// Lists all files. Throws a DataError for a path that does not exist. `report` receives "{path}: {why}"
  /// for each unreadable file.
  TextSource(std::span<const std::filesystem::path> paths, Report report);
  ~TextSource();
  TextSource(const TextSource&) = delete;
  TextSource& operator=(const TextSource&) = delete;

  /// Moves to the next document with text; returns false if there is none.
  bool next_document();
  const std::filesystem::path& document_path() const { return files_[next_ - 1].path; }
  /// The document's next piece, valid until the next call; empty at its end. Throws a DataError if reading
  /// fails in the middle of a document.
  std::string_view next_piece();

  std::int64_t files() const { return static_cast<std::int64_t>(files_.size()); }
  /// Bytes of all listed files, and of the files that have been read or skipped.
  std::int64_t total_bytes() const { return total_bytes_; }
  std::int64_t done_bytes() const { return done_bytes_; }
  const Skipped& skipped() const { return skipped_; }

 private:
  struct File {
    std::filesystem::path path;
    std::int64_t bytes = 0;
  };

  void list(std::span<const std::filesystem::path> paths);
  bool open(const File& file);
  std::int64_t fill();
  void close();
  void unreadable(const std::filesystem::path& path, const std::string& why);

  Report report_;
  std::vector<File> files_;
  std::vector<char> buffer_;
  std::size_t next_ = 0;
  int descriptor_ = -1;
  std::int64_t piece_ = 0;           // bytes in the buffer that next_piece() has not returned yet
  std::int64_t document_bytes_ = 0;  // read from this document
  std::int64_t total_bytes_ = 0;
  std::int64_t done_bytes_ = 0;
  Skipped skipped_;
};

}  // namespace foretoken

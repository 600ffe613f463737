#pragma once
// Files that survive a crash: a file is either complete under its name or absent, and it is on disk when the
// call returns.
//
// An output is written to a temporary file in the same folder, created exclusively under a unique name:
// ".data.h5.5f3a9c1e-x7Kq2Z.tmp" for data.h5, where 5f3a9c1e identifies this host. The file is synced and
// renamed to the output's name, then the folder is synced. Symbolic links are followed: the target is
// replaced, not the link.

#include <filesystem>
#include <string>
#include <string_view>

namespace foretoken {

/// Replaces or creates a file. On failure throws a DataError with the system's reason; the old file stays.
void write_durably(const std::filesystem::path& path, std::string_view text);

/// An output for a library that writes to a path. The destructor removes the temporary file unless it was
/// published.
class PendingFile {
 public:
  /// Also removes temporary files for the same output that killed processes of this host left. Throws a
  /// DataError if the output is a folder or a device, or if no file can be created beside it.
  explicit PendingFile(const std::filesystem::path& output);
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  /// The path to write to: an empty file. Write into this file, do not replace it.
  const std::filesystem::path& path() const { return path_; }
  /// Syncs the file, renames it to the output's name and syncs the folder. The writer must have closed or
  /// flushed the file. On failure throws a DataError; the output is unchanged.
  void publish();

 private:
  std::filesystem::path output_;
  std::filesystem::path path_;
  int descriptor_ = -1;  // holds the lock that marks the file as in use
};

/// A file that grows by whole lines, or by whole records of another format. The caller must ensure
/// that only one object writes to the file at a time.
class AppendedFile {
 public:
  /// Throws a DataError if the file cannot be opened or created.
  explicit AppendedFile(const std::filesystem::path& path);
  ~AppendedFile();
  AppendedFile(const AppendedFile&) = delete;
  AppendedFile& operator=(const AppendedFile&) = delete;

  /// Appends the line and a newline, all or nothing: if the disk is full, the partial line is removed and a
  /// DataError thrown.
  void append(std::string_view line);
  /// The same for bytes of a format without lines. Nothing follows bytes whose removal has failed.
  void append_bytes(std::string_view bytes);
  /// Returns when all appended lines are on disk. Callable from another thread. Throws a DataError on
  /// failure.
  void sync();

 private:
  void write_whole(std::string_view bytes);

  std::filesystem::path path_;
  int descriptor_ = -1;
  bool torn_ = false;  // the file ends in an incomplete line or record
};

/// Syncs a file or a folder to disk. Throws a DataError on failure.
void sync_to_disk(const std::filesystem::path& path);

/// The folder that contains `path`: "." for a bare name.
std::filesystem::path folder_of(const std::filesystem::path& path);

}  // namespace foretoken

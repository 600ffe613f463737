#pragma once
// Files that survive a crash: whole under their name or not there, and on disk before anyone relies on them.
//
// An output is written to a temporary file beside it, which is created exclusively under a name that no other
// file has: ".data.h5.5f3a9c1e-x7Kq2Z.tmp" for data.h5, where 5f3a9c1e stands for this host. It is synced,
// renamed to the output's name, and then its folder is synced. A symbolic link is followed: the file that it
// names is replaced, not the link.

#include <filesystem>
#include <string>
#include <string_view>

namespace foretoken {

/// Replaces or creates a file. A DataError with the system's reason where that fails; the old file then
/// stays.
void write_durably(const std::filesystem::path& path, std::string_view text);

/// An output that a library writes by path. The temporary file exists while the object lives and is removed
/// with it unless it was published.
class PendingFile {
 public:
  /// Also removes the temporary files that killed processes of this host left for the same output. A
  /// DataError where the output is a folder or a device, or where no file can be created beside it.
  explicit PendingFile(const std::filesystem::path& output);
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  /// Where to write: an empty file. Write into this file, do not replace it.
  const std::filesystem::path& path() const { return path_; }
  /// Syncs what was written, renames it to the output's name and syncs the folder. The writer must have
  /// closed or flushed the file. A DataError where that fails; the output is then what it was before.
  void publish();

 private:
  std::filesystem::path output_;
  std::filesystem::path path_;
  int descriptor_ = -1;  // holds the lock that tells other writers that this file is in use
};

/// A file that grows by whole lines. One writer at a time.
class AppendedFile {
 public:
  /// A DataError where it cannot be opened or created.
  explicit AppendedFile(const std::filesystem::path& path);
  ~AppendedFile();
  AppendedFile(const AppendedFile&) = delete;
  AppendedFile& operator=(const AppendedFile&) = delete;

  /// Appends the line and a newline, all or nothing: what a full disk cut is taken back. A DataError then.
  void append(std::string_view line);
  /// Returns when all that was appended is on disk. May be called from another thread. A DataError where
  /// that fails.
  void sync();

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  bool torn_ = false;  // the file ends inside a line that somebody else left
};

/// Syncs a file or a folder to disk. A DataError where that fails.
void sync_to_disk(const std::filesystem::path& path);

/// The folder that holds `path`: "." for a bare name.
std::filesystem::path folder_of(const std::filesystem::path& path);

}  // namespace foretoken

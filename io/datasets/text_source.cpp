#include "io/datasets/text_source.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr std::size_t piece_bytes = 1 << 20;
constexpr std::int64_t sniffed_bytes = 8 << 10;

std::vector<std::filesystem::path> sorted_entries(const std::filesystem::path& folder,
                                                  std::error_code& error) {
  std::vector<std::filesystem::path> entries;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error))
    entries.push_back(entry->path());
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.native() < b.native(); });
  return entries;
}

}  // namespace

TextSource::TextSource(std::span<const std::filesystem::path> paths, Report report)
    : report_(std::move(report)), buffer_(piece_bytes) {
  for (const std::filesystem::path& path : paths) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0)
      throw DataError("text: {}: {}", path.string(), std::strerror(errno));
  }
  list(paths);
}

TextSource::~TextSource() {
  close();
}

void TextSource::list(std::span<const std::filesystem::path> paths) {
  std::set<std::pair<dev_t, ino_t>> seen;
  std::vector<std::filesystem::path> waiting(paths.rbegin(), paths.rend());  // a stack: the next path is last
  while (!waiting.empty()) {
    const std::filesystem::path path = std::move(waiting.back());
    waiting.pop_back();
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
      unreadable(path, std::strerror(errno));
    } else if (!seen.emplace(status.st_dev, status.st_ino).second) {
      if (!S_ISDIR(status.st_mode)) ++skipped_.repeated;
    } else if (S_ISDIR(status.st_mode)) {
      std::error_code error;
      const auto entries = sorted_entries(path, error);
      if (error) unreadable(path, error.message());
      waiting.insert(waiting.end(), entries.rbegin(), entries.rend());
    } else if (!S_ISREG(status.st_mode)) {
      unreadable(path, "is not a regular file");
    } else if (status.st_size == 0) {
      ++skipped_.empty;
    } else {
      files_.push_back({path, status.st_size});
      total_bytes_ += status.st_size;
    }
  }
}

void TextSource::unreadable(const std::filesystem::path& path, const std::string& why) {
  ++skipped_.unreadable;
  report_(fmt::format("{}: {}", path.string(), why));
}

bool TextSource::next_document() {
  while (true) {
    close();
    if (next_ == files_.size()) return false;
    if (open(files_[next_++])) return true;
  }
}

bool TextSource::open(const File& file) {
  document_bytes_ = 0;
  descriptor_ = ::open(file.path.c_str(), O_RDONLY | O_CLOEXEC);
  const std::int64_t read = descriptor_ < 0 ? -1 : fill();
  if (read < 0) {
    unreadable(file.path, std::strerror(errno));
    return false;
  }
  if (read == 0) {  // the file was not empty when it was listed
    ++skipped_.empty;
    return false;
  }
  if (std::memchr(buffer_.data(), 0, static_cast<std::size_t>(std::min(read, sniffed_bytes)))) {
    ++skipped_.binary;
    return false;
  }
  piece_ = read;
  return true;
}

/// Reads until the buffer is full or the file ends. Returns the number of bytes, or -1 with errno set.
std::int64_t TextSource::fill() {
  std::size_t size = 0;
  while (size < buffer_.size()) {
    const ssize_t count = ::read(descriptor_, buffer_.data() + size, buffer_.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -1;
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  return static_cast<std::int64_t>(size);
}

std::string_view TextSource::next_piece() {
  if (document_bytes_ > 0) {
    piece_ = fill();
    if (piece_ < 0)
      throw DataError("text: {}: reading failed after {} bytes: {}", document_path().string(),
                      document_bytes_, std::strerror(errno));
  }
  document_bytes_ += piece_;
  done_bytes_ += piece_;
  return {buffer_.data(), static_cast<std::size_t>(piece_)};
}

void TextSource::close() {
  // The listed size counts as done even if the file turned out shorter, longer or not text.
  if (next_ > 0) done_bytes_ += files_[next_ - 1].bytes - document_bytes_;
  document_bytes_ = next_ > 0 ? files_[next_ - 1].bytes : 0;
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

}  // namespace foretoken

#pragma once
// Reads a text file line by line, however large it is.

#include <filesystem>
#include <string>

#include "io/file_reader.h"

namespace foretoken {

class LineReader {
 public:
  /// DataError as FileReader. Bytes that are appended after this are not read.
  explicit LineReader(const std::filesystem::path& path);

  /// The next line without its newline; false at the end. What follows the last newline is no line: a writer
  /// that was killed left it, see torn(). A DataError for a line longer than `most_line_bytes`.
  bool next(std::string& line);
  /// The number of the line that next() returned, from 1 on.
  std::int64_t number() const { return number_; }
  /// After the end: whether the file ends inside a line.
  bool torn() const { return !buffer_.empty(); }

  static constexpr std::size_t most_line_bytes = std::size_t{1} << 20;

 private:
  FileReader file_;
  std::int64_t bytes_;
  std::int64_t position_ = 0;  // of the next byte to read
  std::string buffer_;         // bytes that were read, from the next line on
  std::size_t begin_ = 0;      // of the next line in the buffer
  std::int64_t number_ = 0;
};

}  // namespace foretoken

#pragma once
// Reads a text file of any size line by line.

#include <filesystem>
#include <string>

#include "io/files/file_reader.h"

namespace foretoken {

class LineReader {
 public:
  /// Throws a DataError as FileReader does. Bytes appended later are not read.
  explicit LineReader(const std::filesystem::path& path);

  /// Returns the next line without its newline; false at the end. Text after the last newline is not a line
  /// but left by a killed writer, see torn(). Throws a DataError for a line longer than `most_line_bytes`.
  bool next(std::string& line);
  /// The number of the line that next() last returned, counted from 1.
  std::int64_t number() const { return number_; }
  /// At the end: whether the file ends inside a line.
  bool torn() const { return !buffer_.empty(); }

  static constexpr std::size_t most_line_bytes = std::size_t{1} << 20;

 private:
  FileReader file_;
  std::int64_t bytes_;
  std::int64_t position_ = 0;  // of the next byte to read
  std::string buffer_;         // bytes read, from the next line on
  std::size_t begin_ = 0;      // offset of the next line in the buffer
  std::int64_t number_ = 0;
};

}  // namespace foretoken

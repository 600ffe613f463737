#include "io/files/line_reader.h"

#include <algorithm>
#include <span>

#include "runtime/error.h"

namespace foretoken {

LineReader::LineReader(const std::filesystem::path& path) : file_(path), bytes_(file_.size()) {}

bool LineReader::next(std::string& line) {
  constexpr std::int64_t block = 1 << 18;
  for (std::size_t searched = begin_;;) {
    const std::size_t end = buffer_.find('\n', searched);
    if (end != std::string::npos && end - begin_ <= most_line_bytes) {
      line.assign(buffer_, begin_, end - begin_);
      begin_ = end + 1;
      ++number_;
      return true;
    }
    if (buffer_.size() - begin_ > most_line_bytes)
      throw DataError("{}:{}: the line is longer than {} bytes", file_.path().string(), number_ + 1,
                      most_line_bytes);
    buffer_.erase(0, begin_);
    begin_ = 0;
    searched = buffer_.size();
    const std::int64_t count = std::min(block, bytes_ - position_);
    if (count == 0) return false;
    buffer_.resize(searched + static_cast<std::size_t>(count));
    file_.read(position_, std::as_writable_bytes(std::span(buffer_).subspan(searched)));
    position_ += count;
  }
}

}  // namespace foretoken

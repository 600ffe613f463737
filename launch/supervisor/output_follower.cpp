#include "launch/supervisor/output_follower.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string_view>
#include <unistd.h>

#include "io/files/printable.h"
#include "io/files/utf8.h"

namespace foretoken {

OutputFollower::OutputFollower(const std::string& path) : file_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout becomes an error of write()
}

OutputFollower::~OutputFollower() {
  if (file_ >= 0) close(file_);
}

bool OutputFollower::copy() {
  while (file_ >= 0 && !closed_) {
    if (pending_.empty()) pending_ = next_text();
    if (pending_.empty()) return true;
    pollfd out{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
    if (poll(&out, 1, 0) != 1) return false;
    // A pipe that polls as writable accepts PIPE_BUF bytes without blocking.
    const std::size_t count = std::min<std::size_t>(pending_.size(), PIPE_BUF);
    const ssize_t written = write(STDOUT_FILENO, pending_.data(), count);
    if (written > 0) pending_.erase(0, static_cast<std::size_t>(written));
    if (written < 0 && errno != EAGAIN && errno != EINTR) closed_ = true;
    if (written < static_cast<ssize_t>(count)) return closed_;
  }
  return true;
}

std::string OutputFollower::next_text() {
  std::array<char, 4096> block{};
  const ssize_t count = pread(file_, block.data(), block.size(), offset_);
  if (count <= 0) return {};
  std::size_t taken = static_cast<std::size_t>(count);
  // The last character may be incomplete; its remaining bytes come with the next read.
  for (std::size_t bytes = 1; bytes < 4 && bytes <= taken; ++bytes)
    if (const std::string_view last(block.data() + taken - bytes, bytes);
        first_character(last).state == Utf8Character::unfinished) {
      taken -= bytes;
      break;
    }
  offset_ += static_cast<off_t>(taken);
  return printable_lines(std::string_view(block.data(), taken));
}

}  // namespace foretoken

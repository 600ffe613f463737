#include "launch/output_follower.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

namespace foretoken {

OutputFollower::OutputFollower(const std::string& path) : file_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout is an error of write()
}

OutputFollower::~OutputFollower() {
  if (file_ >= 0) close(file_);
}

bool OutputFollower::copy() {
  // A pipe that polls as writable takes PIPE_BUF bytes without waiting.
  std::array<char, PIPE_BUF> block{};
  while (file_ >= 0 && !closed_) {
    pollfd out{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
    const ssize_t count = pread(file_, block.data(), block.size(), offset_);
    if (count <= 0) return true;
    if (poll(&out, 1, 0) != 1) return false;
    const ssize_t written = write(STDOUT_FILENO, block.data(), static_cast<std::size_t>(count));
    if (written > 0) offset_ += written;
    if (written < 0 && errno != EAGAIN && errno != EINTR) closed_ = true;
    if (written < count) return closed_;
  }
  return true;
}

}  // namespace foretoken

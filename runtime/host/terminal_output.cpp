#include "runtime/host/terminal_output.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

namespace foretoken {

namespace {

/// Bytes per write to a descriptor that may block: a pipe that poll() reports as writable has space for them.
constexpr std::size_t small_piece = 512;

}  // namespace

TerminalOutput::TerminalOutput(int descriptor) : descriptor_(descriptor) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) return;
  if (!S_ISFIFO(status.st_mode) && !S_ISCHR(status.st_mode)) {
    may_block_ = S_ISSOCK(status.st_mode);
    return;
  }
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  const int again = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  may_block_ = again < 0;
  if (again < 0) return;
  descriptor_ = again;
  own_ = true;
}

TerminalOutput::~TerminalOutput() {
  if (own_) ::close(descriptor_);
}

TerminalOutput::Result TerminalOutput::write(std::string_view text, std::chrono::milliseconds limit) const {
  Result result;
  auto last_progress = std::chrono::steady_clock::now();
  while (result.written < text.size()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(last_progress + limit -
                                                                            std::chrono::steady_clock::now());
    pollfd ready{.fd = descriptor_, .events = POLLOUT, .revents = 0};
    const int polled = ::poll(&ready, 1, static_cast<int>(std::max<std::int64_t>(0, left.count())));
    if (polled < 0 && errno != EINTR) return {result.written, errno};
    if (polled <= 0) {
      if (left.count() <= 0) return {result.written, ETIMEDOUT};
      continue;
    }
    std::string_view rest = text.substr(result.written);
    if (may_block_) rest = rest.substr(0, small_piece);
    const ssize_t count = ::write(descriptor_, rest.data(), rest.size());
    if (count > 0) {
      result.written += static_cast<std::size_t>(count);
      last_progress = std::chrono::steady_clock::now();
    } else if (count < 0 && errno != EINTR && errno != EAGAIN) {
      return {result.written, errno};
    } else if (left.count() <= 0) {
      return {result.written, ETIMEDOUT};
    }
  }
  return result;
}

}  // namespace foretoken

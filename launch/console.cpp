#include "launch/console.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fmt/format.h>

#include "runtime/error.h"

namespace foretoken {

void Console::open_log(const std::string& path) {
  if (!speaks_) return;
  const std::lock_guard lock(mutex_);
  log_path_ = path;
  log_.open(path, std::ios::app);
  if (!log_) throw DataError("console: {}: the log cannot be opened: {}", path, std::strerror(errno));
}

void Console::line(const std::string& text) {
  if (!speaks_) return;
  const std::lock_guard lock(mutex_);
  fmt::print("{}\n", text);
  std::fflush(stdout);
  mirror(text);
}

void Console::warn(const std::string& text) {
  if (!speaks_) return;
  const std::lock_guard lock(mutex_);
  fmt::print(stderr, "warning: {}\n", text);
  mirror("warning: " + text);
}

void Console::mirror(const std::string& text) {
  if (!log_.is_open()) return;
  log_.clear();
  errno = 0;
  log_ << text << '\n' << std::flush;
  if (log_ || log_failed_) return;
  log_failed_ = true;
  fmt::print(stderr, "warning: console: {}: the log cannot be written: {}; this is said once\n", log_path_,
             std::strerror(errno));
}

}  // namespace foretoken

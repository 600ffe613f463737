#include "launch/console/console.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <optional>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "io/files/printable.h"
#include "launch/console/line_queue.h"
#include "launch/console/terminal.h"
#include "runtime/error.h"
#include "runtime/host/terminal_output.h"

namespace foretoken {

namespace {

constexpr std::chrono::milliseconds one_write{200};
constexpr std::size_t most_early_bytes = 64 << 10;

const char* stream_name(int descriptor) {
  return descriptor == STDOUT_FILENO ? "standard output" : "standard error";
}

/// Returns 0 or errno.
int write_stream(std::FILE* stream, std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stream) == text.size() && std::fflush(stream) == 0) return 0;
  return errno != 0 ? errno : EIO;
}

}  // namespace

/// Writes to the terminal and the log, directly or through one queue for each, so that a blocked terminal
/// does not delay the log.
class Console::Sinks {
 public:
  explicit Sinks(Delivery delivery) {
    if (delivery == Delivery::wait) return;
    outputs_[0].emplace(STDOUT_FILENO);
    outputs_[1].emplace(STDERR_FILENO);
    terminal_.emplace("the terminal", [this](const LineQueue::Line& line, std::size_t begin) {
      return write_some(line.target, std::string_view(line.text).substr(begin));
    });
  }
  ~Sinks() {
    set_status({});
    flush();
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;  // the queues' threads stop reporting errors to each other's queue
    }
    terminal_.reset();
    log_queue_.reset();
    if (log_ >= 0) ::close(log_);
  }
  Sinks(const Sinks&) = delete;
  Sinks& operator=(const Sinks&) = delete;

  void open_log(const std::string& path) {
    const std::lock_guard lock(mutex_);
    log_path_ = path;
    log_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (log_ < 0) throw DataError("console: {}: the log cannot be opened: {}", path, std::strerror(errno));
    if (terminal_)
      log_queue_.emplace("log.txt", [this](const LineQueue::Line& line, std::size_t begin) {
        return write_log_some(std::string_view(line.text).substr(begin));
      });
    if (const std::string early = std::exchange(early_, {}); !early.empty()) mirror(early);
  }

  /// `logged` is the text for the log; empty if only the terminal shows the text.
  void add(int target, const std::string& text, const std::string& logged) {
    const std::lock_guard lock(mutex_);
    if (status_.empty()) {
      show(target, text);
    } else if (target == STDOUT_FILENO) {
      show(target, fmt::format("{}{}{}", clear_line, text, status_));
    } else {  // under mpirun stderr is another pipe to the same terminal
      show(STDOUT_FILENO, std::string(clear_line));
      show(target, text);
      status_.clear();
    }
    if (logged.empty()) return;
    if (log_ >= 0)
      mirror(logged);
    else if (early_.size() + logged.size() <= most_early_bytes)
      early_ += logged;
  }

  void set_status(const std::string& text) {
    const std::lock_guard lock(mutex_);
    if (text.empty() && status_.empty()) return;
    // The cursor returns to the first column, so that a line of another process covers this one.
    status_ = text.empty() ? "" : text + '\r';
    const std::string drawn = std::string(clear_line) + status_;
    if (text.empty() || !terminal_) return show(STDOUT_FILENO, drawn);
    terminal_->add_if_idle({STDOUT_FILENO, drawn});
  }

  void flush() {
    if (terminal_) terminal_->flush();
    if (log_queue_) log_queue_->flush();
  }

  int stdout_error() {
    const std::lock_guard lock(mutex_);
    return errors_[0];
  }

 private:
  void show(int target, const std::string& text) {
    if (terminal_) return terminal_->add({target, text});
    if (const int error = write_stream(target == STDOUT_FILENO ? stdout : stderr, text); error != 0)
      note_failure(target, error);
  }

  int& error_of(int descriptor) { return errors_[descriptor == STDOUT_FILENO ? 0 : 1]; }

  void note_failure(int descriptor, int error) {
    if (error_of(descriptor) == 0) error_of(descriptor) = error;
  }

  /// Appends to the log, which must be open.
  void mirror(const std::string& text) {
    if (log_queue_) return log_queue_->add({log_, text});
    if (const std::string warning = write_log(text); !warning.empty()) write_stream(stderr, warning);
  }

  /// Runs on the terminal's thread.
  std::int64_t write_some(int descriptor, std::string_view text) {
    const TerminalOutput& output = *outputs_[descriptor == STDOUT_FILENO ? 0 : 1];
    const TerminalOutput::Result result = output.write(text, one_write);
    if (result.error == 0 || result.error == ETIMEDOUT || result.written > 0)
      return static_cast<std::int64_t>(result.written);
    const std::lock_guard lock(mutex_);
    if (error_of(descriptor) == 0 && log_queue_ && !closing_)
      log_queue_->add({log_, fmt::format("warning: console: {} cannot be written: {}; the run continues\n",
                                         stream_name(descriptor), std::strerror(result.error))});
    note_failure(descriptor, result.error);
    return -1;
  }

  /// Runs on the log's thread.
  std::int64_t write_log_some(std::string_view text) {
    const std::string warning = write_log(text);
    if (warning.empty()) return static_cast<std::int64_t>(text.size());
    const std::lock_guard lock(mutex_);
    if (!closing_) terminal_->add({STDERR_FILENO, warning});
    return -1;
  }

  /// Returns a warning, once; empty if there is none.
  std::string write_log(std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = ::write(log_, text.data(), text.size());
      if (written < 0 && errno != EINTR) break;
      if (written > 0) text.remove_prefix(static_cast<std::size_t>(written));
    }
    if (text.empty() || std::exchange(log_failed_, true)) return {};
    return fmt::format("warning: console: {}: the log cannot be written: {}; this is reported once\n",
                       log_path_, std::strerror(errno));
  }

  std::mutex mutex_;
  std::array<std::optional<TerminalOutput>, 2> outputs_;  // stdout, stderr
  std::array<int, 2> errors_{};                           // the first errno of each
  int log_ = -1;
  std::string log_path_;
  std::string status_;  // text of the terminal's last line and a carriage return; empty: no such line
  std::string early_;   // lines that were printed before the log was opened
  bool log_failed_ = false;
  bool closing_ = false;
  std::optional<LineQueue> log_queue_;
  std::optional<LineQueue> terminal_;
};

Console::Console(bool speaks, Delivery delivery)
    : speaks_(speaks), sinks_(std::make_unique<Sinks>(delivery)) {}

Console::~Console() = default;

void Console::open_log(const std::string& path) {
  if (speaks_) sinks_->open_log(path);
}

void Console::line(const std::string& text) {
  line(text, text);
}

void Console::line(const std::string& text, const std::string& on_terminal) {
  if (!speaks_) return;
  const std::string logged = printable_lines(text) + '\n';
  sinks_->add(STDOUT_FILENO, columns() ? printable_lines(on_terminal) + '\n' : logged, logged);
}

void Console::warn(const std::string& text) {
  if (!speaks_) return;
  const std::string line = "warning: " + printable_lines(text) + '\n';
  sinks_->add(STDERR_FILENO, line, line);
}

void Console::line_of_any_rank(const std::string& text) {
  const std::string line = printable_lines(text) + '\n';
  sinks_->add(STDOUT_FILENO, line, speaks_ ? line : "");
}

std::optional<int> Console::columns() const {
  return terminal_columns(STDOUT_FILENO);
}

void Console::status(const std::string& text) {
  if (speaks_ && (text.empty() || columns())) sinks_->set_status(text);
}

void Console::flush() {
  sinks_->flush();
}

void Console::require_written() {
  if (const int error = sinks_->stdout_error(); error != 0)
    throw DataError("standard output: cannot be written: {}", std::strerror(error));
}

void print_text(std::string_view text) {
  if (const int error = write_stream(stdout, text); error != 0)
    throw DataError("standard output: cannot be written: {}", std::strerror(error));
}

}  // namespace foretoken

#include "launch/supervisor/subprocess.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <optional>
#include <set>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

#include "launch/console/stop_signal.h"
#include "launch/supervisor/process_tree.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds pause{50};
constexpr std::chrono::seconds between_looks{1};
/// How long the command may continue after this process has killed its ranks.
constexpr std::chrono::seconds ending_limit{3};
/// A command that has no ranks on this host for this time receives the stop signal itself.
constexpr std::chrono::seconds remote_ranks_limit{10};
constexpr int not_started = 127;
constexpr int killed = 128 + SIGKILL;

[[noreturn]] void become(const std::string& line, int output, pid_t parent) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(not_started);
  restore_signals();
  sigset_t blocked;
  sigemptyset(&blocked);
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&blocked, signal);
  sigprocmask(SIG_SETMASK, &blocked, nullptr);
  dup2(output, 1);
  dup2(output, 2);
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, 0);
  execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
  _exit(not_started);
}

/// Returns once the child has become the shell; before that, /proc shows the child as a process of this
/// program, like a rank.
pid_t start(const std::string& line, const std::string& output_file) {
  const int output = open(output_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (output < 0) throw DataError("{}: cannot be opened: {}", output_file, std::strerror(errno));
  std::array<int, 2> started{};
  if (pipe2(started.data(), O_CLOEXEC) != 0) throw DefectError("pipe: {}", std::strerror(errno));
  const std::string command = "exec " + line;
  const pid_t parent = getpid();
  // _Fork() skips the fork handlers of libraries: OpenBLAS's handler stops threads that may still be
  // starting.
  const pid_t child = _Fork();
  if (child == 0) become(command, output, parent);
  const int failure = errno;
  close(output);
  close(started[1]);
  char nothing = 0;
  while (child > 0 && read(started[0], &nothing, 1) < 0 && errno == EINTR) {
  }
  close(started[0]);
  if (child < 0) throw DefectError("fork: {}", std::strerror(failure));
  return child;
}

class RunningCommand {
 public:
  RunningCommand(const std::string& line, const CommandOptions& options)
      : options_(options),
        output_before_(output_size()),
        child_(start("env " + tree_.mark() + " " + line, options.output_file)) {}

  CommandEnd wait() {
    while (!ended()) {
      if (stop_signal() != 0) forward_stop();
      if (Clock::now() - looked_ > between_looks) look();
      if (options_.meanwhile) options_.meanwhile();
      std::this_thread::sleep_for(pause);
    }
    clean_up();
    if (cut_short_) return {.code = killed, .cut_short = true};
    return {.code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_)};
  }

 private:
  bool ended() { return ended_ || (ended_ = waitpid(child_, &status_, WNOHANG) == child_); }

  void log(const std::string& text) const {
    if (options_.log) options_.log(text);
  }

  void forward_stop() {
    const auto now = Clock::now();
    if (!stop_) {
      stop_ = now;
      log(fmt::format("stop       signal {} ({}): the ranks have {} s to write a checkpoint", stop_signal(),
                      strsignal(stop_signal()), options_.grace.count()));
    }
    if (now - *stop_ > options_.grace)
      return end(fmt::format("the ranks did not stop within {} s", options_.grace.count()));
    const std::vector<pid_t> ranks = tree_.ranks();
    for (const pid_t rank : ranks)
      if (!signalled_.contains(rank) && catches_signal(rank, SIGUSR1)) {
        kill(rank, SIGUSR1);
        signalled_.insert(rank);
      }
    const bool remote = ranks.empty() && signalled_.empty() && now - *stop_ > remote_ranks_limit;
    if (remote) {
      kill(child_, SIGUSR1);
      signalled_.insert(child_);
    }
  }

  /// Ends the command if it continues without its ranks.
  void look() {
    looked_ = Clock::now();
    const std::size_t ranks = tree_.ranks().size();
    most_ranks_ = std::max(most_ranks_, ranks);
    const auto gone_for = [&](bool gone, std::optional<Clock::time_point>& since) {
      if (!gone) since.reset();
      if (gone && !since) since = looked_;
      return since ? looked_ - *since : Clock::duration::zero();
    };
    const bool last_gone = gone_for(ranks == 0 && most_ranks_ > 0, last_gone_) > options_.launcher_limit;
    const bool first_gone = gone_for(ranks < most_ranks_, first_gone_) > options_.straggler_limit;
    const bool late = options_.startup_limit.count() > 0 && looked_ - start_ > options_.startup_limit;
    if (late && most_ranks_ == 0 && output_size() == output_before_)
      return end(fmt::format("no rank has started within {} s", options_.startup_limit.count()));
    if (first_gone || last_gone)
      end(fmt::format("{} of this host's {} ranks ended {} s ago and the launcher is still waiting",
                      most_ranks_ - ranks, most_ranks_,
                      (last_gone ? options_.launcher_limit : options_.straggler_limit).count()));
  }

  std::uintmax_t output_size() const {
    std::error_code error;
    const std::uintmax_t size = std::filesystem::file_size(options_.output_file, error);
    return error ? 0 : size;
  }

  void end(const std::string& reason) {
    log(fmt::format("ended      {}: the remaining processes are killed", reason));
    cut_short_ = true;
    for (const pid_t rank : tree_.ranks()) kill(rank, SIGKILL);
    kill(child_,
         SIGTERM);  // srun waits for SIGTERM by itself although it is blocked, and then ends its job step
    const auto since = Clock::now();
    while (!ended() && Clock::now() - since < ending_limit) std::this_thread::sleep_for(pause);
    if (ended()) return;
    kill(child_, SIGKILL);
    waitpid(child_, &status_, 0);
    ended_ = true;
  }

  void clean_up() {
    // The launcher's daemons may still be ending by themselves.
    const auto since = Clock::now();
    while (!tree_.members().empty() && Clock::now() - since < std::chrono::seconds(1))
      std::this_thread::sleep_for(pause);
    if (!tree_.kill_all()) log("warning: processes of this attempt are still running, blocked in the kernel");
  }

  const CommandOptions& options_;
  const Clock::time_point start_ = Clock::now();
  const std::uintmax_t output_before_;  // bytes
  ProcessTree tree_;
  pid_t child_;
  int status_ = 0;
  bool ended_ = false, cut_short_ = false;
  std::optional<Clock::time_point> stop_, first_gone_, last_gone_;
  Clock::time_point looked_ = Clock::now();
  std::size_t most_ranks_ = 0;
  std::set<pid_t> signalled_;  // members that have received the stop signal
};

}  // namespace

CommandEnd run_command(const std::string& line, const CommandOptions& options) {
  return RunningCommand(line, options).wait();
}

std::string shell_quoted(const std::string& word) {
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace foretoken

#include "launch/subprocess.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "launch/stop_signal.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr std::chrono::milliseconds pause{100};
constexpr int not_started = 127;

[[noreturn]] void become(const std::string& line, int output) {
  setpgid(0, 0);  // Ctrl-C is for the parent, which asks for a checkpoint first
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  for (int signal : {SIGUSR1, SIGTERM, SIGINT}) std::signal(signal, SIG_DFL);
  dup2(output, 1);
  dup2(output, 2);
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, 0);
  execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
  _exit(not_started);
}

}  // namespace

int run_command(const std::string& line, const std::string& output_file,
                const std::function<void()>& meanwhile) {
  const int output = open(output_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (output < 0) throw DataError("{}: cannot be opened: {}", output_file, std::strerror(errno));
  const std::string command = "exec " + line;
  // Without the handlers of libraries: OpenBLAS's stops its threads, which it may be starting.
  const pid_t child = _Fork();
  if (child == 0) become(command, output);
  close(output);
  if (child < 0) throw DefectError("fork: {}", std::strerror(errno));
  int status = 0;
  for (bool told = false; waitpid(child, &status, WNOHANG) == 0;) {
    if (stop_signal() != 0 && !told) {
      kill(child, SIGUSR1);
      told = true;
    }
    meanwhile();
    std::this_thread::sleep_for(pause);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string shell_quoted(const std::string& word) {
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace foretoken

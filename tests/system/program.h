#pragma once
// The program as a person runs it: command lines, exit codes, printed lines, processes that can be killed.

#include <chrono>
#include <functional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace foretoken::testing {

struct Outcome {
  int code = 0;        // of the exit, or 128 + the signal
  std::string output;  // stdout and stderr
};

/// A command of bash that runs in the background, in a process group of its own.
class Process {
 public:
  explicit Process(const std::string& command);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool running();
  /// Waits for the end; kills the group and fails with code 124 after the limit.
  Outcome wait(std::chrono::seconds limit = std::chrono::seconds(120));
  /// Sends a signal to the command alone, not to its children.
  void signal(int signal) const;
  /// RLIMIT_FSIZE of the command, from now on.
  void limit_file_size(unsigned long bytes) const;
  /// The processes below it whose name is `name`, ascending.
  std::vector<pid_t> children(const std::string& name) const;
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int status_ = 0;
  bool ended_ = false;
  std::string output_file_;
};

Outcome run(const std::string& command);
/// All living processes whose command line holds `text` as one of its words, ascending.
std::vector<pid_t> processes_with_word(const std::string& text);
/// Polls until the condition holds; false after the limit.
bool wait_until(const std::function<bool()>& condition,
                std::chrono::seconds limit = std::chrono::seconds(60));

/// "…/bin/foretoken", and the same under mpirun.
std::string program();
std::string program_on(int ranks);

/// What mpirun needs to give one rank a disk on which an fsync takes that long: " -x LD_PRELOAD=... ".
std::string slow_disk(int rank, int milliseconds);

/// A tokenized text and a configuration of a small model in `folder`: returns "train CONFIG" ready to run.
std::string small_training(const TemporaryFolder& folder);

}  // namespace foretoken::testing

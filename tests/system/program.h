#pragma once
// Runs the program as a user does: command lines, exit codes, printed lines, processes that can be killed.

#include <chrono>
#include <functional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace foretoken::testing {

struct Outcome {
  int code = 0;        // exit code, or 128 + the signal
  std::string output;  // stdout and stderr
};

/// A bash command that runs in the background, in its own process group.
class Process {
 public:
  explicit Process(const std::string& command);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool running();
  /// Waits for the end of the command; after the limit kills the group and returns code 124.
  Outcome wait(std::chrono::seconds limit = std::chrono::seconds(120));
  /// Sends a signal to the command only, not to its children.
  void signal(int signal) const;
  /// Sets RLIMIT_FSIZE of the running command.
  void limit_file_size(unsigned long bytes) const;
  /// The command's direct children whose name is `name`, ascending by pid.
  std::vector<pid_t> children(const std::string& name) const;
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int status_ = 0;
  bool ended_ = false;
  std::string output_file_;
};

Outcome run(const std::string& command);
/// All running processes whose command line has `text` as one of its words, ascending by pid.
std::vector<pid_t> processes_with_word(const std::string& text);
/// Polls until the condition holds; returns false after the limit.
bool wait_until(const std::function<bool()>& condition,
                std::chrono::seconds limit = std::chrono::seconds(60));

/// "…/bin/foretoken", and the same command under mpirun.
std::string program();
std::string program_on(int ranks);

/// The mpirun options that give one rank a disk with slow fsync: " -x LD_PRELOAD=... ".
std::string slow_disk(int rank, int milliseconds);
/// The mpirun options that make the matrix products of one CPU rank take five times as long.
std::string slow_products(int rank);

/// Writes a tokenized text and a configuration of a small model to `folder`; returns a complete "train
/// CONFIG" command.
std::string small_training(const TemporaryFolder& folder);

}  // namespace foretoken::testing

#include "tests/system/program.h"

#include <algorithm>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

#include "runtime/error.h"

namespace foretoken::testing {

namespace {

constexpr std::chrono::milliseconds poll_pause{2};

std::string text_of(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string unique_output_file() {
  std::string name = (std::filesystem::temp_directory_path() / "foretoken-output-XXXXXX").string();
  const int file = mkstemp(name.data());
  if (file < 0) throw DefectError("test: cannot make {}", name);
  close(file);
  return name;
}

}  // namespace

Process::Process(const std::string& command) : output_file_(unique_output_file()) {
  pid_ = _Fork();  // _Fork() skips the fork handlers of libraries: OpenBLAS may still be starting its threads
  if (pid_ < 0) throw DefectError("test: fork failed");
  if (pid_ != 0) return;
  setpgid(0, 0);
  const int out = open(output_file_.c_str(), O_WRONLY | O_TRUNC);
  dup2(out, 1);
  dup2(out, 2);
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, 0);
  const std::string line = "exec " + command;
  execl("/bin/bash", "bash", "-c", line.c_str(), nullptr);
  _exit(127);
}

Process::~Process() {
  if (!ended_) {
    kill(-pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::filesystem::remove(output_file_);
}

bool Process::running() {
  if (!ended_ && waitpid(pid_, &status_, WNOHANG) == pid_) ended_ = true;
  return !ended_;
}

Outcome Process::wait(std::chrono::seconds limit) {
  if (!wait_until([this] { return !running(); }, limit)) {
    kill(-pid_, SIGKILL);
    waitpid(pid_, &status_, 0);
    ended_ = true;
    return {124, text_of(output_file_)};
  }
  const int code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  return {code, text_of(output_file_)};
}

void Process::signal(int signal) const {
  kill(pid_, signal);
}

void Process::limit_file_size(unsigned long bytes) const {
  const rlimit limit{.rlim_cur = bytes, .rlim_max = bytes};
  if (prlimit(pid_, RLIMIT_FSIZE, &limit, nullptr) != 0) throw DefectError("test: prlimit failed");
}

std::vector<pid_t> Process::children(const std::string& name) const {
  std::vector<pid_t> pids;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    if (entry.path().filename().string().find_first_not_of("0123456789") != std::string::npos) continue;
    std::string stat;  // "pid (name) state parent ..."; empty if the process has just ended
    std::ifstream file(entry.path() / "stat");
    std::getline(file, stat);
    const std::size_t open = stat.find('('), close = stat.rfind(')');
    if (open == std::string::npos || stat.substr(open + 1, close - open - 1) != name) continue;
    if (std::stoi(stat.substr(close + 4)) == pid_) pids.push_back(std::stoi(stat));
  }
  std::sort(pids.begin(), pids.end());
  return pids;
}

std::vector<pid_t> processes_with_word(const std::string& text) {
  std::vector<pid_t> pids;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    if (entry.path().filename().string().find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string words = '\0' + text_of((entry.path() / "cmdline").string());
    if (words.find('\0' + text + '\0') != std::string::npos)
      pids.push_back(std::stoi(entry.path().filename().string()));
  }
  std::sort(pids.begin(), pids.end());
  return pids;
}

Outcome run(const std::string& command) {
  return Process(command).wait();
}

bool wait_until(const std::function<bool()>& condition, std::chrono::seconds limit) {
  const auto start = std::chrono::steady_clock::now();
  while (!condition()) {
    if (std::chrono::steady_clock::now() - start > limit) return false;
    std::this_thread::sleep_for(poll_pause);
  }
  return true;
}

std::string program() {
  return FORETOKEN_PROGRAM;
}

std::string program_on(int ranks) {
  setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
  setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  return fmt::format("mpirun -n {} --oversubscribe --bind-to none {}", ranks, program());
}

std::string slow_disk(int rank, int milliseconds) {
  return fmt::format(" -x LD_PRELOAD={} -x SLOW_DISK_RANK={} -x SLOW_DISK_MILLISECONDS={} ",
                     SLOW_DISK_LIBRARY, rank, milliseconds);
}

std::string slow_products(int rank) {
  return fmt::format(" -x LD_PRELOAD={} -x SLOW_PRODUCTS_RANK={} ", SLOW_PRODUCTS_LIBRARY, rank);
}

std::string small_training(const TemporaryFolder& folder) {
  std::string text;
  for (int i = 0; i < 400; ++i)
    text += fmt::format("line {} of a text that repeats itself, {} times\n", i, i % 7);
  folder.write("text/a.txt", text);
  const Outcome made = run(fmt::format("{} tokenize {} -o {}", program(), (folder / "text").string(),
                                       (folder / "data.h5").string()));
  if (made.code != 0) throw DefectError("test: tokenize failed: {}", made.output);
  const auto config = folder.write("train.toml", fmt::format(R"([model]
hidden_size = 16
num_hidden_layers = 4
num_attention_heads = 2
num_key_value_heads = 2
head_dim = 8
intermediate_size = 24
vocab_size = 257

[mtp]
depths = 2

[data]
path = "{}"
sequence_length = 16

[train]
steps = 40
global_batch = 8
microbatch = 1

[optimizer]
warmup_steps = 2

[parallel]
threads = 1
)",
                                                             (folder / "data.h5").string()));
  return "train " + config.string();
}

}  // namespace foretoken::testing

#include "launch/supervisor/process_tree.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string_view>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

namespace foretoken {

namespace {

constexpr std::chrono::milliseconds pause{50};
constexpr std::chrono::seconds kill_limit{5};
constexpr std::string_view mark_name = "FORETOKEN_LAUNCH=";

struct Entry {
  pid_t parent = 0;
  bool zombie = false;
};

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// /proc/PID/stat: "pid (name) state parent ...", where the name may contain any character.
bool read_entry(const std::string& folder, Entry& entry) {
  const std::string stat = read_all(folder + "/stat");
  const std::size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos || name_end + 4 >= stat.size()) return false;
  entry.zombie = stat[name_end + 2] == 'Z' || stat[name_end + 2] == 'X';
  const char* begin = stat.data() + name_end + 4;
  return std::from_chars(begin, stat.data() + stat.size(), entry.parent).ec == std::errc();
}

std::map<pid_t, Entry> list_processes() {
  std::map<pid_t, Entry> processes;
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc", error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    pid_t pid = 0;
    const auto [rest, status] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (status != std::errc() || rest != name.data() + name.size()) continue;
    if (Entry entry; read_entry(it->path().string(), entry)) processes[pid] = entry;
  }
  return processes;
}

bool has_mark(pid_t pid, const std::string& mark) {
  const std::string folder = fmt::format("/proc/{}", pid);
  struct stat owner {};
  if (stat(folder.c_str(), &owner) != 0 || owner.st_uid != geteuid()) return false;
  const std::string environment = '\0' + read_all(folder + "/environ");
  return environment.find('\0' + mark + '\0') != std::string::npos;
}

bool runs_this_program(pid_t pid) {
  struct stat own {};
  struct stat other {};
  return stat("/proc/self/exe", &own) == 0 && stat(fmt::format("/proc/{}/exe", pid).c_str(), &other) == 0 &&
         own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

}  // namespace

ProcessTree::ProcessTree() {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  static int trees = 0;
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  mark_ = fmt::format("{}{}.{}.{}", mark_name, getpid(), now, ++trees);
}

std::vector<ProcessTree::Member> ProcessTree::find() const {
  const std::map<pid_t, Entry> processes = list_processes();
  const pid_t self = getpid();
  std::vector<Member> members;
  for (const auto& [pid, entry] : processes) {
    if (pid == self || entry.zombie) continue;
    bool descends = false;
    pid_t above = entry.parent;
    // A parent may have ended between two reads; the number of processes bounds the search.
    for (std::size_t i = 0; i < processes.size() && !descends; ++i) {
      descends = above == self;
      const auto found = processes.find(above);
      if (found == processes.end()) break;
      above = found->second.parent;
    }
    if (!descends && !has_mark(pid, mark_)) continue;
    const bool below_rank = entry.parent != self && runs_this_program(entry.parent);
    members.push_back({.pid = pid, .rank = !below_rank && runs_this_program(pid)});
  }
  return members;
}

std::vector<pid_t> ProcessTree::members() const {
  std::vector<pid_t> pids;
  for (const Member& member : find()) pids.push_back(member.pid);
  return pids;
}

std::vector<pid_t> ProcessTree::ranks() const {
  std::vector<pid_t> pids;
  for (const Member& member : find())
    if (member.rank) pids.push_back(member.pid);
  return pids;
}

bool ProcessTree::kill_all() const {
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    const std::vector<pid_t> left = members();
    if (left.empty()) return true;
    for (const pid_t pid : left) kill(pid, SIGKILL);
    if (std::chrono::steady_clock::now() - start > kill_limit) return false;
    std::this_thread::sleep_for(pause);
  }
}

bool catches_signal(pid_t process, int signal) {
  std::ifstream status(fmt::format("/proc/{}/status", process));
  std::uint64_t caught = 0;
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("SigCgt:")) continue;
    const std::size_t digits = line.find_first_not_of(" \t", line.find(':') + 1);
    if (digits != std::string::npos)
      std::from_chars(line.data() + digits, line.data() + line.size(), caught, 16);
  }
  return (caught >> (signal - 1) & 1) != 0;
}

}  // namespace foretoken

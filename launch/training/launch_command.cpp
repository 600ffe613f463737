#include "launch/training/launch_command.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>
#include <unistd.h>

#include <fmt/format.h>

#include "launch/supervisor/subprocess.h"

namespace foretoken {

namespace {

constexpr int most_ancestors = 16;

std::string_view name_of(const Words& command) {
  if (command.empty()) return {};
  const std::string_view path = command.front();
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}

bool is_mpirun(const Words& command) {
  constexpr std::array<std::string_view, 4> names{"mpirun", "mpiexec", "orterun", "prterun"};
  return std::find(names.begin(), names.end(), name_of(command)) != names.end();
}

bool has(const Words& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string joined(const Words& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ' ';
    text += shell_word(word);
  }
  return text;
}

/// The words of mpirun's command line before the program; empty if the program is not found in it, or if it
/// starts several programs.
Words before_program(const Words& launcher, const Words& own) {
  const auto program = std::search(launcher.begin(), launcher.end(), own.begin(), own.end());
  if (program == launcher.end() || has(launcher, ":")) return {};
  return {launcher.begin(), program};
}

std::string mpirun_words(Words words, const LaunchSurroundings& surroundings) {
  const auto require = [&](std::initializer_list<const char*> flags) {
    if (!has(words, *flags.begin())) words.insert(words.end(), flags.begin(), flags.end());
  };
  if (surroundings.root) require({"--allow-run-as-root"});
  if (surroundings.oversubscribes) {
    require({"--oversubscribe"});
    require({"--bind-to", "none"});
  }
  return joined(words);
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Words command_line(const std::string& process) {
  Words words;
  const std::string text = read_file("/proc/" + process + "/cmdline");
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\0', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

/// Pid of the parent; empty if the process is gone.
std::string parent_of(const std::string& process) {
  const std::string stat = read_file("/proc/" + process + "/stat");  // "pid (name) state parent ..."
  const std::size_t name_end = stat.rfind(") ");
  if (name_end == std::string::npos) return {};
  const std::size_t begin = name_end + 4;
  return stat.substr(begin, stat.find(' ', begin) - begin);
}

bool is_set(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

}  // namespace

std::string shell_word(const std::string& word) {
  constexpr std::string_view plain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,+@%";
  return !word.empty() && word.find_first_not_of(plain) == std::string::npos ? word : shell_quoted(word);
}

LaunchCommand launch_command(const LaunchSurroundings& surroundings) {
  LaunchCommand command{
      .ranks = {},
      .program = shell_word(surroundings.own.empty() ? "foretoken" : surroundings.own.front()),
      .supervisor = {}};
  for (const Words& ancestor : surroundings.ancestors) {
    if (command.ranks.empty() && is_mpirun(ancestor))
      if (const Words words = before_program(ancestor, surroundings.own); !words.empty())
        command.ranks = mpirun_words(words, surroundings);
    if (name_of(ancestor) == name_of(surroundings.own) && ancestor.size() > 1 && ancestor[1] == "run")
      command.supervisor = joined(ancestor);
  }
  if (!command.ranks.empty() || surroundings.ranks == 1) return command;
  const std::string number = std::to_string(surroundings.ranks);
  command.ranks = surroundings.slurm_step ? joined({"srun", "--mpi=pmix", "-n", number})
                                          : mpirun_words({"mpirun", "-n", number}, surroundings);
  return command;
}

LaunchCommand launch_command(int ranks) {
  LaunchSurroundings surroundings{
      .own = command_line("self"),
      .ancestors = {},
      .ranks = ranks,
      .root = geteuid() == 0,
      .oversubscribes = is_set("OMPI_MCA_rmaps_base_oversubscribe"),
      .slurm_step = is_set("SLURM_STEP_ID") && !is_set("OMPI_COMM_WORLD_LOCAL_RANK")};
  std::string process = parent_of("self");
  for (int i = 0; i < most_ancestors && !process.empty() && process != "0"; ++i, process = parent_of(process))
    surroundings.ancestors.push_back(command_line(process));
  return launch_command(surroundings);
}

}  // namespace foretoken

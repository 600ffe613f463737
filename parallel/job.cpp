#include "parallel/job.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string_view>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

namespace foretoken {

namespace {

namespace fs = std::filesystem;

/// Variables by name; operator[] returns an empty string for a variable that is not set.
using Environment = std::map<std::string, std::string, std::less<>>;

constexpr std::array variables{
    "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_MCA_orte_precondition_transports",
    "PMIX_NAMESPACE",       "SLURM_PROCID",         "SLURM_NTASKS",
    "SLURM_JOB_ID",         "SLURM_STEP_ID",        "SLURM_RESTART_COUNT"};

int number(const std::string& text, int otherwise) {
  int value = otherwise;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0 ? value : otherwise;
}

std::string file_name_of(std::string text) {
  const auto is_plain = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '.' || c == '_'; };
  std::replace_if(
      text.begin(), text.end(), [&](unsigned char c) { return !is_plain(c); }, '_');
  return text;
}

Job job_of(Environment environment) {
  Job job;
  if (!environment["OMPI_COMM_WORLD_RANK"].empty()) {
    job.rank = number(environment["OMPI_COMM_WORLD_RANK"], 0);
    job.size = number(environment["OMPI_COMM_WORLD_SIZE"], 1);
    // Open MPI 4 draws this random key for every job. The namespace may be the same for two jobs of a host.
    job.id = environment["OMPI_MCA_orte_precondition_transports"];
    if (job.id.empty()) job.id = environment["PMIX_NAMESPACE"];
  } else if (!environment["SLURM_PROCID"].empty() && !environment["SLURM_STEP_ID"].empty()) {
    job.rank = number(environment["SLURM_PROCID"], 0);
    job.size = number(environment["SLURM_NTASKS"], 1);
    job.id = fmt::format("slurm-{}.{}.{}", environment["SLURM_JOB_ID"], environment["SLURM_STEP_ID"],
                         number(environment["SLURM_RESTART_COUNT"], 0));
  }
  job.id = file_name_of(job.id);
  if (job.rank >= job.size) return {};
  return job;
}

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Environment environment_of(const fs::path& process) {
  const std::string text = content_of(process / "environ");
  Environment environment;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\0', at), text.size());
    const std::string_view entry = std::string_view(text).substr(at, end - at);
    const std::size_t equals = entry.find('=');
    if (equals != std::string_view::npos &&
        std::find(variables.begin(), variables.end(), entry.substr(0, equals)) != variables.end())
      environment.emplace(entry.substr(0, equals), entry.substr(equals + 1));
    at = end + 1;
  }
  return environment;
}

/// The third field of stat, after the name in parentheses.
char state_of(const fs::path& process) {
  const std::string stat = content_of(process / "stat");
  const std::size_t close = stat.rfind(')');
  return close != std::string::npos && close + 2 < stat.size() ? stat[close + 2] : 'X';
}

}  // namespace

Job job_by_environment() {
  Environment environment;
  for (const char* variable : variables)
    if (const char* value = std::getenv(variable)) environment[variable] = value;
  return job_of(std::move(environment));
}

std::vector<LocalProcess> local_processes(const Job& job) {
  std::vector<LocalProcess> processes;
  if (!job.known()) return processes;
  std::error_code error;
  for (fs::directory_iterator i("/proc", error), end; !error && i != end; i.increment(error)) {
    const int pid = number(i->path().filename().string(), -1);
    if (pid < 0) continue;
    const Job other = job_of(environment_of(i->path()));
    if (other.id != job.id || other.size != job.size) continue;
    processes.push_back({.rank = other.rank, .pid = pid, .state = state_of(i->path())});
  }
  std::sort(processes.begin(), processes.end(),
            [](const LocalProcess& a, const LocalProcess& b) { return a.pid < b.pid; });
  return processes;
}

int remote_daemon() {
  const int parent = static_cast<int>(getppid());
  std::string name = content_of(fs::path("/proc") / std::to_string(parent) / "comm");
  if (!name.empty() && name.back() == '\n') name.pop_back();
  return name == "orted" || name == "prted" ? parent : 0;
}

}  // namespace foretoken

#include "launch/supervisor/hosts.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <ifaddrs.h>
#include <netdb.h>
#include <set>
#include <sstream>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

#include "launch/config/number_flag.h"
#include "launch/supervisor/ask.h"
#include "launch/supervisor/subprocess.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr int most_slots = 1 << 20;

constexpr std::chrono::seconds slurm_limit{20};

/// Addresses and names under which a list may contain this host.
std::set<std::string> own_names() {
  std::set<std::string> names{"localhost"};
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) == 0) {
    names.insert(host.data());
    names.insert(std::string(host.data()).substr(0, std::string(host.data()).find('.')));
  }
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return names;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    const int family = one->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    std::array<char, NI_MAXHOST> text{};
    const socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    if (getnameinfo(one->ifa_addr, size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) == 0)
      names.insert(text.data());
  }
  freeifaddrs(all);
  return names;
}

std::string remote_shell() {
  const char* agent = std::getenv("OMPI_MCA_plm_rsh_agent");
  return agent != nullptr ? agent : "ssh -o BatchMode=yes -o ConnectTimeout=5";
}

}  // namespace

std::vector<Host> read_hostfile(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw UsageError("hostfile: {}: cannot be opened", path);
  std::vector<Host> hosts;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    std::istringstream words(line.substr(0, line.find('#')));
    Host host;
    if (!(words >> host.name)) continue;
    for (std::string word; words >> word;) {
      if (word.starts_with("max_slots=") || word.starts_with("max-slots=")) continue;
      const auto slots =
          word.starts_with("slots=") ? read_integer(std::string_view(word).substr(6)) : std::nullopt;
      if (!slots || *slots < 1 || *slots > most_slots)
        throw UsageError("hostfile: expected slots=N, 1 to {}, found \"{}\" ({}:{})", most_slots, word, path,
                         number);
      host.slots = static_cast<int>(*slots);
    }
    const auto listed =
        std::find_if(hosts.begin(), hosts.end(), [&](const Host& h) { return h.name == host.name; });
    if (listed == hosts.end())
      hosts.push_back(host);
    else
      listed->slots += host.slots;
  }
  if (hosts.empty()) throw UsageError("hostfile: {}: names no host", path);
  return hosts;
}

std::string host_list(const std::vector<Host>& hosts) {
  std::string list;
  for (const Host& host : hosts)
    list += fmt::format("{}{}:{}", list.empty() ? "" : ",", host.name, host.slots);
  return list;
}

int slots_of(const std::vector<Host>& hosts) {
  int slots = 0;
  for (const Host& host : hosts) slots += host.slots;
  return slots;
}

std::vector<Host> reachable(const std::vector<Host>& hosts, std::chrono::seconds limit) {
  const std::set<std::string> own = own_names();
  std::vector<char> answers(hosts.size());
  {
    std::vector<std::jthread> questions;
    for (std::size_t i = 0; i < hosts.size(); ++i) {
      answers[i] = own.contains(hosts[i].name) ? 1 : 0;
      if (answers[i] == 0)
        questions.emplace_back([&, i] {
          answers[i] =
              ask(fmt::format("{} {} true", remote_shell(), shell_quoted(hosts[i].name)), limit).code == 0;
        });
    }
  }
  std::vector<Host> found;
  for (std::size_t i = 0; i < hosts.size(); ++i)
    if (answers[i] != 0) found.push_back(hosts[i]);
  return found;
}

std::vector<int> tasks_per_node(std::string_view text) {
  std::vector<int> tasks;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    const std::size_t times = part.find("(x");
    const auto count = read_integer(part.substr(0, times));
    std::optional<std::int64_t> nodes = 1;
    if (times != std::string_view::npos)
      nodes =
          part.ends_with(')') ? read_integer(part.substr(times + 2, part.size() - times - 3)) : std::nullopt;
    if (!count || !nodes || *count < 1 || *count > most_slots || *nodes < 1 || *nodes > most_slots) return {};
    tasks.insert(tasks.end(), static_cast<std::size_t>(*nodes), static_cast<int>(*count));
  }
  return tasks;
}

std::vector<Host> allocated_hosts() {
  const char* nodes = std::getenv("SLURM_JOB_NODELIST");
  const char* tasks = std::getenv("SLURM_TASKS_PER_NODE");
  if (nodes == nullptr || tasks == nullptr) return {};
  const std::vector<int> counts = tasks_per_node(tasks);
  const auto names = lines_of(ask("scontrol show hostnames " + shell_quoted(nodes), slurm_limit).text);
  if (names.size() != counts.size()) return {};
  std::vector<Host> hosts;
  for (std::size_t i = 0; i < names.size(); ++i) hosts.push_back({.name = names[i], .slots = counts[i]});
  return hosts;
}

bool is_up(std::string_view slurm_state) {
  if (slurm_state.ends_with('*')) return false;  // "*": the node does not answer slurmctld
  const auto begins = [&](const char* word) { return slurm_state.starts_with(word); };
  return begins("alloc") || begins("mix") || begins("idle") || begins("comp") || begins("drain") ||
         begins("drng") || begins("res");
}

std::vector<Host> allocated_and_up(const std::vector<Host>& hosts) {
  const char* job = std::getenv("SLURM_JOB_ID");
  if (job == nullptr) return hosts;
  const auto nodes = lines_of(
      ask(fmt::format("squeue --noheader --jobs={} --format=%N", shell_quoted(job)), slurm_limit).text);
  if (nodes.empty()) return hosts;
  const Answer states =
      ask("sinfo --noheader --Node --format='%N %T' --nodes=" + shell_quoted(nodes.front()), slurm_limit);
  if (states.code != 0 || states.text.empty()) return hosts;
  std::set<std::string> up;
  for (const std::string& line : lines_of(states.text)) {
    std::istringstream words(line);
    std::string name, state;
    if (words >> name >> state && is_up(state)) up.insert(name);
  }
  std::vector<Host> found;
  for (const Host& host : hosts)
    if (up.contains(host.name)) found.push_back(host);
  return found;
}

}  // namespace foretoken

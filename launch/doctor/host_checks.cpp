#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <map>
#include <numeric>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/console/progress_bar.h"
#include "launch/doctor/checks.h"
#include "launch/doctor/units.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

std::map<std::string, std::vector<int>> by_host(const JobFacts& facts) {
  std::map<std::string, std::vector<int>> hosts;
  for (std::size_t rank = 0; rank < facts.ranks.size(); ++rank)
    hosts[facts.ranks[rank].host.name].push_back(static_cast<int>(rank));
  return hosts;
}

/// Ranks of one host whose bindings overlap, directly or through other ranks.
struct CoreGroup {
  std::vector<int> ranks;
  std::set<int> cores;
  int threads = 0;
  bool same_binding = true;

  bool too_few() const { return ranks.size() > 1 && threads > static_cast<int>(cores.size()); }
};

std::vector<CoreGroup> core_groups(const JobFacts& facts) {
  std::vector<CoreGroup> groups;
  for (const auto& [host, ranks] : by_host(facts)) {
    std::vector<CoreGroup> of_host;
    for (const int rank : ranks) {
      const HostFacts& own = facts.ranks[static_cast<std::size_t>(rank)].host;
      CoreGroup joined{
          .ranks = {rank}, .cores = {own.cores.begin(), own.cores.end()}, .threads = own.threads};
      const std::set<int> binding = joined.cores;
      std::erase_if(of_host, [&](const CoreGroup& group) {
        const bool overlaps = std::any_of(own.cores.begin(), own.cores.end(),
                                          [&](int core) { return group.cores.count(core) != 0; });
        if (!overlaps) return false;
        joined.same_binding = joined.same_binding && group.same_binding && group.cores == binding;
        joined.ranks.insert(joined.ranks.end(), group.ranks.begin(), group.ranks.end());
        joined.cores.insert(group.cores.begin(), group.cores.end());
        joined.threads += group.threads;
        return true;
      });
      of_host.push_back(std::move(joined));
    }
    std::move(of_host.begin(), of_host.end(), std::back_inserter(groups));
  }
  return groups;
}

/// Cores of the group's machine that no rank of the job may use.
int idle_cores(const JobFacts& facts, const CoreGroup& group) {
  const HostFacts& host = facts.ranks[static_cast<std::size_t>(group.ranks.front())].host;
  std::set<int> used;
  for (const RankFacts& rank : facts.ranks)
    if (rank.host.name == host.name) used.insert(rank.host.cores.begin(), rank.host.cores.end());
  return host.machine_cores - static_cast<int>(used.size());
}

std::string cores_text(const std::set<int>& cores) {
  return fmt::format("{} {}", cores.size() == 1 ? "core" : "cores",
                     numbers_text({cores.begin(), cores.end()}));
}

Check cores_row(const JobFacts& facts) {
  Check check{.name = "cores"};
  std::set<int> threads, bound;
  for (const RankFacts& rank : facts.ranks) {
    threads.insert(rank.host.threads);
    bound.insert(static_cast<int>(rank.host.cores.size()));
  }
  const auto range = [](const std::set<int>& values) {
    return values.size() == 1 ? std::to_string(*values.begin())
                              : fmt::format("{}-{}", *values.begin(), *values.rbegin());
  };
  const std::vector<CoreGroup> groups = core_groups(facts);
  const bool disjoint = std::all_of(groups.begin(), groups.end(),
                                    [](const CoreGroup& group) { return group.ranks.size() == 1; });
  check.summary = fmt::format(
      "{} thread{} per rank; each rank may use {} of {} cores{}", range(threads),
      threads == std::set<int>{1} ? "" : "s", range(bound), facts.ranks.front().host.machine_cores,
      disjoint ? facts.ranks.size() == 1 ? "" : ", no two ranks the same" : ", shared by ranks");
  if (threads.size() > 1) {
    std::map<int, std::vector<int>> by_threads;
    for (std::size_t rank = 0; rank < facts.ranks.size(); ++rank)
      by_threads[facts.ranks[rank].host.threads].push_back(static_cast<int>(rank));
    std::vector<std::string> parts;
    for (const auto& [count, ranks] : by_threads)
      parts.push_back(fmt::format("{} with {}", ranks_text(facts, ranks), counted(count, "thread")));
    check.findings.push_back({Severity::warning, fmt::format("the ranks compute with different numbers of "
                                                             "threads: {}",
                                                             fmt::join(parts, ", "))});
  }
  for (const CoreGroup& group : groups) {
    if (group.ranks.size() == 1) continue;
    const int idle = idle_cores(facts, group);
    if (group.too_few()) {
      check.findings.push_back(
          {Severity::warning,
           fmt::format("{} share {} and compute with {} together{}", ranks_text(facts, group.ranks),
                       cores_text(group.cores), counted(group.threads, "thread"),
                       idle > 0 ? fmt::format("; the launcher gave no rank the other {} of the machine",
                                              counted(idle, "core"))
                                : "")});
    } else if (!group.same_binding) {
      check.findings.push_back(
          {Severity::warning, fmt::format("the bindings of {} overlap ({})", ranks_text(facts, group.ranks),
                                          cores_text(group.cores))});
    }
  }
  return check;
}

/// The rank with the lowest limit, in which -1 counts as unlimited.
std::pair<int, std::int64_t> lowest(const JobFacts& facts, std::int64_t ProcessLimits::*member) {
  std::pair<int, std::int64_t> result{0, -1};
  for (std::size_t rank = 0; rank < facts.ranks.size(); ++rank)
    if (const std::int64_t value = facts.ranks[rank].host.limits.*member;
        value >= 0 && (result.second < 0 || value < result.second))
      result = {static_cast<int>(rank), value};
  return result;
}

Check limits_row(const JobFacts& facts) {
  Check check{.name = "limits"};
  const auto text = [](std::int64_t value) {
    return value < 0 ? "unlimited" : format_bytes(static_cast<double>(value));
  };
  const auto [files_rank, files] = lowest(facts, &ProcessLimits::open_files);
  const auto [locked_rank, locked] = lowest(facts, &ProcessLimits::locked_memory);
  const auto [stack_rank, stack] = lowest(facts, &ProcessLimits::stack);
  const auto [core_rank, core] = lowest(facts, &ProcessLimits::core_file);
  check.summary =
      fmt::format("open files {}, locked memory {}, stack {}, core files {}",
                  files < 0 ? "unlimited" : std::to_string(files), text(locked), text(stack), text(core));
  // A rank may hold a connection to every other rank, besides its own files.
  const auto ranks = static_cast<std::int64_t>(facts.ranks.size());
  const std::int64_t needed_files = 256 + 4 * ranks, needed_stack = std::int64_t{1} << 20;
  if (files >= 0 && files < needed_files)
    check.findings.push_back(
        {Severity::wrong,
         fmt::format("{} may open {} files; a job of {} needs {} (ulimit -n)",
                     ranks_text(facts, {files_rank}), files, counted(ranks, "rank"), needed_files)});
  if (stack >= 0 && stack < needed_stack)
    check.findings.push_back({Severity::wrong, fmt::format("{} has a stack of {}, at least {} are needed "
                                                           "(ulimit -s)",
                                                           ranks_text(facts, {stack_rank}),
                                                           format_bytes(static_cast<double>(stack)),
                                                           format_bytes(static_cast<double>(needed_stack)))});
  const bool gpu = !facts.ranks.front().device.pci_address.empty();
  if (gpu && by_host(facts).size() > 1 && locked >= 0)
    check.findings.push_back(
        {Severity::warning,
         fmt::format("{} may lock {} of memory; InfiniBand needs it unlimited (ulimit -l)",
                     ranks_text(facts, {locked_rank}), format_bytes(static_cast<double>(locked)))});
  return check;
}

Check shared_memory_row(const JobFacts& facts) {
  constexpr std::int64_t per_rank = std::int64_t{64} << 20;
  Check check{.name = "shared memory"};
  std::int64_t smallest = -1;
  for (const auto& [host, ranks] : by_host(facts)) {
    const std::int64_t size = facts.ranks[static_cast<std::size_t>(ranks.front())].host.shared_memory;
    if (smallest < 0 || size < smallest) smallest = size;
    const std::int64_t needed = per_rank * static_cast<std::int64_t>(ranks.size());
    if (ranks.size() > 1 && size < needed)
      check.findings.push_back(
          {Severity::warning,
           fmt::format("/dev/shm of {} has {}; MPI and NCCL may need {} for {} (in Docker: --shm-size)", host,
                       format_bytes(static_cast<double>(size)), format_bytes(static_cast<double>(needed)),
                       counted(ranks.size(), "rank"))});
  }
  check.summary = fmt::format("/dev/shm has {}{}", format_bytes(static_cast<double>(smallest)),
                              by_host(facts).size() > 1 ? " on the host with the least" : "");
  return check;
}

Check clocks_row(const JobFacts& facts) {
  constexpr double most = 1;  // seconds
  Check check{.name = "clocks"};
  double furthest = 0;
  for (std::size_t i = 0; i < facts.ranks.size(); ++i) {
    const std::optional<ClockOffset>& clock = facts.ranks[i].clock;
    if (!clock) continue;
    if (std::abs(clock->seconds) > std::abs(furthest)) furthest = clock->seconds;
    if (std::abs(clock->seconds) - clock->uncertainty > most)
      check.findings.push_back(
          {Severity::warning,
           fmt::format("the clock of {} is {} {} that of rank 0: times in logs of the "
                       "hosts do not compare",
                       ranks_text(facts, {static_cast<int>(i)}), duration_text(std::abs(clock->seconds)),
                       clock->seconds > 0 ? "ahead of" : "behind")});
  }
  check.summary = by_host(facts).size() == 1 ? "one host"
                                             : fmt::format("{}, at most {} apart from that of rank 0",
                                                           counted(by_host(facts).size(), "host"),
                                                           duration_text(std::abs(furthest)));
  return check;
}

}  // namespace

std::vector<std::vector<int>> sharing_cores(const JobFacts& facts) {
  std::vector<std::vector<int>> sharing(facts.ranks.size());
  for (const CoreGroup& group : core_groups(facts)) {
    if (!group.too_few()) continue;
    for (const int rank : group.ranks)
      for (const int other : group.ranks)
        if (other != rank) sharing[static_cast<std::size_t>(rank)].push_back(other);
  }
  return sharing;
}

std::vector<Check> host_checks(const JobFacts& facts) {
  return {cores_row(facts), limits_row(facts), shared_memory_row(facts), clocks_row(facts)};
}

}  // namespace foretoken

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "launch/console/progress_bar.h"
#include "launch/doctor/checks.h"
#include "launch/doctor/units.h"

namespace foretoken {

namespace {

constexpr std::int64_t little = std::int64_t{10} << 30, too_little = std::int64_t{1} << 30;
constexpr double slow = 20e6;  // bytes/s of all ranks

bool usable(const RankFacts& rank) {
  return rank.folder->problem.empty();
}

}  // namespace

std::vector<Check> folder_checks(const JobFacts& facts) {
  if (!facts.ranks.front().folder) return {};
  const FolderFacts& first = *facts.ranks.front().folder;
  Check folder{.name = "run folder"}, writing{.name = "write rate"};
  std::map<std::string, std::vector<int>> problems;
  std::vector<int> elsewhere;
  std::int64_t free = first.free_bytes;
  double slowest = first.write_rate, total = 0;
  for (std::size_t rank = 0; rank < facts.ranks.size(); ++rank) {
    const FolderFacts& own = *facts.ranks[rank].folder;
    if (!own.problem.empty()) {
      problems[own.problem].push_back(static_cast<int>(rank));
      continue;
    }
    if (!own.shared) elsewhere.push_back(static_cast<int>(rank));
    free = std::min(free, own.free_bytes);
    slowest = std::min(slowest, own.write_rate);
    total += own.write_rate;
  }
  for (const auto& [problem, ranks] : problems)
    folder.findings.push_back({Severity::wrong, fmt::format("{}: {}", ranks_text(facts, ranks), problem)});
  if (usable(facts.ranks.front()) && !elsewhere.empty())
    folder.findings.push_back(
        {Severity::wrong,
         fmt::format("{} {} not see the file that rank 0 created in {}: the folder is not shared",
                     ranks_text(facts, elsewhere), elsewhere.size() == 1 ? "does" : "do", first.path)});
  if (!problems.empty()) {
    folder.summary = first.path;
    return {folder};
  }
  folder.summary = fmt::format("{} ({}), {} free, {} hard links, {} locks", first.path, first.file_system,
                               format_bytes(static_cast<double>(free)), first.hard_links ? "with" : "without",
                               first.locks ? "with" : "without");
  if (free < little)
    folder.findings.push_back(
        {free < too_little ? Severity::wrong : Severity::warning,
         fmt::format("{} has only {} free", first.path, format_bytes(static_cast<double>(free)))});
  if (first.file_system == "tmpfs" || first.file_system == "ramfs")
    folder.findings.push_back(
        {Severity::warning, fmt::format("{} is in memory ({}): checkpoints are lost when the host restarts",
                                        first.path, first.file_system)});
  writing.summary = facts.ranks.size() == 1
                        ? fmt::format("{} with fsync", scaled(total, "B/s"))
                        : fmt::format("{} of all ranks together with fsync, slowest rank {}",
                                      scaled(total, "B/s"), scaled(slowest, "B/s"));
  if (total < slow)
    writing.findings.push_back({Severity::warning, fmt::format("{} takes only {} from all ranks together: "
                                                               "checkpoints will be slow",
                                                               first.path, scaled(total, "B/s"))});
  return {folder, writing};
}

}  // namespace foretoken

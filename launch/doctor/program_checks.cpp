#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/doctor/checks.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

using Versions = std::map<std::string, std::string>;

std::string version_of(const Versions& versions, const std::string& key) {
  const auto found = versions.find(key);
  return found == versions.end() ? "none" : found->second;
}

/// The value of most ranks; of several, the one of the lowest rank.
std::string usual(const JobFacts& facts, const std::string& key) {
  std::map<std::string, int> counts;
  for (const RankFacts& rank : facts.ranks) ++counts[version_of(rank.versions, key)];
  std::string best = version_of(facts.ranks.front().versions, key);
  for (const RankFacts& rank : facts.ranks)
    if (const std::string value = version_of(rank.versions, key); counts[value] > counts[best]) best = value;
  return best;
}

/// One finding for each value that some ranks have and most have not.
void add_differences(const JobFacts& facts, const std::string& key, std::vector<Finding>& findings) {
  const std::string expected = usual(facts, key);
  std::map<std::string, std::vector<int>> others;
  for (std::size_t rank = 0; rank < facts.ranks.size(); ++rank)
    if (const std::string value = version_of(facts.ranks[rank].versions, key); value != expected)
      others[value].push_back(static_cast<int>(rank));
  for (const auto& [value, ranks] : others)
    findings.push_back(
        {Severity::wrong, fmt::format("{}: {} {} {}, the other ranks have {}", key, ranks_text(facts, ranks),
                                      ranks.size() == 1 ? "has" : "have", value, expected)});
}

Check row(const JobFacts& facts, std::string name, const std::vector<std::string>& keys) {
  Check check{.name = std::move(name)};
  std::vector<std::string> parts;
  for (const std::string& key : keys) {
    const std::string value = usual(facts, key);
    if (value != "none") parts.push_back(fmt::format("{} {}", key, value));
    add_differences(facts, key, check.findings);
  }
  check.summary = fmt::format("{}", fmt::join(parts, ", "));
  return check;
}

}  // namespace

std::vector<Check> program_checks(const JobFacts& facts) {
  std::vector<Check> rows{row(facts, "program", {"foretoken", "commit", "build", "for"}),
                          row(facts, "libraries", {"MPI", "HDF5", "transport", "CUDA", "driver"})};
  if (!facts.measured)
    rows.front().findings.push_back(
        {Severity::warning,
         "speeds and links were not measured: ranks with different programs cannot "
         "measure together"});
  return rows;
}

}  // namespace foretoken

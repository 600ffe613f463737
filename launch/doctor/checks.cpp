#include "launch/doctor/checks.h"

#include <algorithm>
#include <iterator>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace foretoken {

const char* name_of(Severity severity) {
  switch (severity) {
    case Severity::ok:
      return "ok";
    case Severity::warning:
      return "warning";
    case Severity::wrong:
      return "WRONG";
  }
  return "";
}

Severity Check::severity() const {
  Severity highest = Severity::ok;
  for (const Finding& finding : findings) highest = std::max(highest, finding.severity);
  return highest;
}

SpeedLimits speed_limits(bool gpu) {
  return gpu ? SpeedLimits{} : SpeedLimits{.wrong = 0.20};
}

Severity worst(const std::vector<Check>& checks) {
  Severity highest = Severity::ok;
  for (const Check& check : checks) highest = std::max(highest, check.severity());
  return highest;
}

std::vector<Check> checks(const JobFacts& facts) {
  std::vector<Check> all;
  for (const auto part : {program_checks, device_checks, host_checks, link_checks, folder_checks}) {
    std::vector<Check> rows = part(facts);
    std::move(rows.begin(), rows.end(), std::back_inserter(all));
  }
  return all;
}

std::string numbers_text(std::vector<int> numbers) {
  std::sort(numbers.begin(), numbers.end());
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    if (end - i > 2) {
      parts.push_back(fmt::format("{}-{}", numbers[i], numbers[end - 1]));
    } else {
      for (std::size_t k = i; k < end; ++k) parts.push_back(std::to_string(numbers[k]));
    }
    i = end;
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string ranks_text(const JobFacts& facts, const std::vector<int>& ranks) {
  const std::string text = fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", numbers_text(ranks));
  std::set<std::string> hosts, of_job;
  for (const RankFacts& rank : facts.ranks) of_job.insert(rank.host.name);
  for (const int rank : ranks) hosts.insert(facts.ranks[static_cast<std::size_t>(rank)].host.name);
  return of_job.size() > 1 && hosts.size() == 1 ? fmt::format("{} ({})", text, *hosts.begin()) : text;
}

}  // namespace foretoken

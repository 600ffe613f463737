#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "launch/console/columns.h"
#include "launch/doctor/report.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

constexpr std::size_t most_findings = 20;  // of a row and severity
constexpr std::size_t finding_column = 9;  // after "warning  "

}  // namespace

std::string report_text(const JobFacts& facts, const std::vector<Check>& checks) {
  std::set<std::string> hosts;
  for (const RankFacts& rank : facts.ranks) hosts.insert(rank.host.name);
  std::size_t width = 0;
  for (const Check& check : checks) width = std::max(width, check.name.size() + 2);
  std::string text = fmt::format("doctor     {} on {}, {}\n\n", counted(facts.ranks.size(), "rank"),
                                 counted(hosts.size(), "host"), facts.layout);
  for (const Check& check : checks)
    text += in_columns(fmt::format("{:<{}}{}", check.name, width, name_of(check.severity())), check.summary,
                       width + finding_column);
  std::size_t warnings = 0, wrong = 0;
  std::string lines;
  const auto add = [&](Severity severity, const Check& check, const std::string& what) {
    lines += in_columns(name_of(severity), check.name + ": " + what, finding_column);
  };
  for (const Severity severity : {Severity::wrong, Severity::warning})
    for (const Check& check : checks) {
      std::size_t count = 0;
      for (const Finding& finding : check.findings)
        if (finding.severity == severity && ++count <= most_findings) add(severity, check, finding.text);
      if (count > most_findings)
        add(severity, check, fmt::format("{} more findings, listed by --json", count - most_findings));
      (severity == Severity::wrong ? wrong : warnings) += count;
    }
  if (!lines.empty()) text += "\n" + lines;
  text += wrong + warnings == 0 ? "\neverything is fine\n"
                                : fmt::format("\n{} wrong, {}\n", wrong, counted(warnings, "warning"));
  return text;
}

}  // namespace foretoken

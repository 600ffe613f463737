#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "launch/doctor/checks.h"
#include "launch/doctor/link_summary.h"
#include "launch/doctor/units.h"
#include "runtime/median.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

constexpr double slow = 0.5;  // of the median of links of the same kind

const std::string& host_of(const JobFacts& facts, int rank) {
  return facts.ranks[static_cast<std::size_t>(rank)].host.name;
}

/// A slow link of GPUs usually means a wrong network or a broken cable. On CPUs other programs may cause it.
Severity slow_link(const JobFacts& facts) {
  return facts.ranks.front().device.pci_address.empty() ? Severity::warning : Severity::wrong;
}

Check messages_row(const JobFacts& facts) {
  Check check{.name = "messages"};
  const auto add = [&](const char* where, const std::vector<NamedLink>& links) {
    if (links.empty()) return;
    const Link median = median_of(links);
    check.summary += fmt::format("{}{}: {}, {} ({})", check.summary.empty() ? "" : "; ", where,
                                 duration_text(median.latency), scaled(median.bandwidth, "B/s"),
                                 counted(links.size(), "link"));
    for (const NamedLink& link : links)
      if (link.rate.bandwidth < slow * median.bandwidth)
        check.findings.push_back(
            {slow_link(facts),
             fmt::format("the link from {} to {} has {}, the median {}: {}", ranks_text(facts, {link.from}),
                         ranks_text(facts, {link.to}), scaled(link.rate.bandwidth, "B/s"), where,
                         scaled(median.bandwidth, "B/s"))});
  };
  const MeasuredLinks links = links_of(facts);
  add("inside a node", links.inside_node);
  add("between nodes", links.between_nodes);
  if (check.summary.empty()) check.summary = "no pipeline neighbours in this layout";
  return check;
}

struct WorldFirst {
  bool operator()(const std::string& a, const std::string& b) const {
    return std::pair(a != "world", a) < std::pair(b != "world", b);
  }
};

/// The rate of a group is that of its slowest rank.
std::vector<Check> all_reduce_rows(const JobFacts& facts) {
  std::map<std::string, std::map<int, GroupRate>, WorldFirst> kinds;
  for (const RankFacts& rank : facts.ranks)
    for (const GroupRate& group : rank.groups) {
      const auto [entry, inserted] = kinds[group.name].emplace(group.first, group);
      GroupRate& whole = entry->second;
      if (whole.ranks.empty()) whole.ranks = group.ranks;
      whole.rate.latency = std::max(whole.rate.latency, group.rate.latency);
      whole.rate.bandwidth = std::min(whole.rate.bandwidth, group.rate.bandwidth);
    }
  std::vector<Check> rows;
  for (const auto& [kind, groups] : kinds) {
    Check check{.name = "all-reduce, " + kind};
    std::vector<double> bandwidths, latencies;
    for (const auto& [first, group] : groups) {
      bandwidths.push_back(group.rate.bandwidth);
      latencies.push_back(group.rate.latency);
    }
    const double median = upper_median(bandwidths);
    const double slowest = *std::min_element(bandwidths.begin(), bandwidths.end());
    check.summary = fmt::format("{} of {}: {}, {} per rank{}", counted(groups.size(), "group"),
                                counted(groups.begin()->second.ranks.size(), "rank"),
                                duration_text(lower_median(latencies)), scaled(median, "B/s"),
                                groups.size() > 1 ? fmt::format(", slowest {}", scaled(slowest, "B/s")) : "");
    for (const auto& [first, group] : groups)
      if (group.rate.bandwidth < slow * median)
        check.findings.push_back(
            {slow_link(facts),
             fmt::format("the all-reduce of {} has {}, the median is {}", ranks_text(facts, group.ranks),
                         scaled(group.rate.bandwidth, "B/s"), scaled(median, "B/s"))});
    rows.push_back(std::move(check));
  }
  return rows;
}

}  // namespace

MeasuredLinks links_of(const JobFacts& facts) {
  MeasuredLinks links;
  for (std::size_t rank = 0; rank < facts.ranks.size(); ++rank) {
    const RankFacts& own = facts.ranks[rank];
    if (own.next_rank < 0) continue;
    const NamedLink link{static_cast<int>(rank), own.next_rank, own.next};
    (host_of(facts, link.from) == host_of(facts, link.to) ? links.inside_node : links.between_nodes)
        .push_back(link);
  }
  return links;
}

Link median_of(const std::vector<NamedLink>& links) {
  std::vector<double> latencies, bandwidths;
  for (const NamedLink& link : links) {
    latencies.push_back(link.rate.latency);
    bandwidths.push_back(link.rate.bandwidth);
  }
  return {.latency = lower_median(std::move(latencies)), .bandwidth = upper_median(std::move(bandwidths))};
}

std::vector<Check> link_checks(const JobFacts& facts) {
  if (!facts.measured || facts.ranks.size() < 2) return {};
  std::vector<Check> rows{messages_row(facts)};
  for (Check& row : all_reduce_rows(facts)) rows.push_back(std::move(row));
  return rows;
}

}  // namespace foretoken

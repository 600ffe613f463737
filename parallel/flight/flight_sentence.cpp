#include "parallel/flight/flight_sentence.h"

#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace foretoken {

namespace {

class Names {
 public:
  explicit Names(const std::vector<FlightFile>& files) {
    for (const FlightFile& file : files) {
      if (file.ranks.size() > identities_.size()) identities_ = file.ranks;
      for (const LocalProcess& process : file.processes) processes_[process.rank] = process;
    }
  }

  std::string host(int rank) const {
    return static_cast<std::size_t>(rank) < identities_.size()
               ? identities_[static_cast<std::size_t>(rank)].host
               : "";
  }

  /// Example: "rank 2 (pp1 dp0, host h, pid 7)".
  std::string rank(int rank) const {
    RankIdentity identity;
    if (static_cast<std::size_t>(rank) < identities_.size())
      identity = identities_[static_cast<std::size_t>(rank)];
    if (identity.pid == 0 && processes_.contains(rank)) identity.pid = processes_.at(rank).pid;
    std::vector<std::string> parts;
    if (!identity.label.empty()) parts.push_back(identity.label);
    if (!identity.host.empty()) parts.push_back("host " + identity.host);
    if (identity.pid > 0) parts.push_back(fmt::format("pid {}", identity.pid));
    return parts.empty() ? fmt::format("rank {}", rank)
                         : fmt::format("rank {} ({})", rank, fmt::join(parts, ", "));
  }

  std::string ranks(const std::vector<int>& ranks) const {
    constexpr std::size_t most = 8;  // if a large host is gone, its first ranks identify it
    std::string text;
    for (std::size_t i = 0; i < ranks.size() && i < most; ++i)
      text += fmt::format("{}{}", i == 0 ? "" : ", ", rank(ranks[i]));
    if (ranks.size() > most) text += fmt::format(" and {} more", ranks.size() - most);
    return text;
  }

  /// State of a rank without a record, as the kernel reported it to ranks of the same host.
  std::string state(int rank) const {
    const auto process = processes_.find(rank);
    if (process == processes_.end()) return "";
    if (process->second.stopped()) return ", whose process is stopped,";
    if (process->second.ended()) return ", whose process has ended,";
    return process->second.state == 'D' ? ", whose process waits for a device," : "";
  }

 private:
  std::vector<RankIdentity> identities_;
  std::map<int, LocalProcess> processes_;
};

std::string who_waits(const Divergence& divergence, int size) {
  const std::size_t others = static_cast<std::size_t>(size) - divergence.ranks.size();
  const char* object = divergence.ranks.size() > 1 ? "them" : "it";
  if (divergence.waiting.size() == others)
    return others == 1 ? fmt::format("rank {} waits for {}", divergence.waiting.front(), object)
                       : fmt::format("all other ranks wait for {}", object);
  return fmt::format("{} of {} other ranks wait for {}", divergence.waiting.size(), others, object);
}

}  // namespace

std::string sentence(const Divergence& divergence, const std::vector<FlightFile>& files, int size) {
  const Names names(files);
  const bool several = divergence.ranks.size() > 1;
  switch (divergence.kind) {
    case Divergence::Kind::none:
      return "no rank waits for another";
    case Divergence::Kind::mismatch:
      return fmt::format("{} is in {}, {} in {}", names.rank(divergence.ranks[0]), divergence.operation,
                         names.rank(divergence.ranks[1]), divergence.other);
    case Divergence::Kind::no_record: {
      const std::string operation =
          divergence.operation.empty()
              ? "left no flight record"
              : "did not complete " + divergence.operation + " and left no flight record";
      // Ranks may wait outside a communication, for example in a save.
      const std::string waiting = divergence.waiting.empty() ? "" : "; " + who_waits(divergence, size);
      return fmt::format("{}{} {}{}", names.ranks(divergence.ranks),
                         several ? "" : names.state(divergence.ranks.front()), operation, waiting);
    }
    case Divergence::Kind::absent:
      return fmt::format("{} did not enter {}: it has been in no communication for {:.1f} s; {}",
                         names.rank(divergence.ranks.front()), divergence.operation, divergence.seconds,
                         who_waits(divergence, size));
    case Divergence::Kind::cycle:
      return fmt::format("{} wait for each other, in {}", names.ranks(divergence.ranks),
                         divergence.operation);
    case Divergence::Kind::paused:
      return fmt::format("{} did not run for {:.1f} s, while rank {} waited in {} beyond its limit",
                         names.rank(divergence.ranks.front()), divergence.seconds, divergence.waiting.front(),
                         divergence.operation);
    case Divergence::Kind::late:
      return fmt::format("{} was about {:.0f} s late for {}, for which rank {} waited beyond its limit",
                         names.rank(divergence.ranks.front()), divergence.seconds, divergence.operation,
                         divergence.waiting.front());
    case Divergence::Kind::connection: {
      std::set<std::string> hosts;
      for (const int rank : divergence.ranks)
        if (!names.host(rank).empty()) hosts.insert(names.host(rank));
      const std::string between =
          hosts.size() > 1 ? fmt::format("the connection between hosts {}", fmt::join(hosts, " and "))
                           : std::string("the connection between them");
      return fmt::format("no rank is missing: {} all entered {}, which does not complete; {} is suspected",
                         names.ranks(divergence.ranks), divergence.operation, between);
    }
  }
  return "";
}

}  // namespace foretoken

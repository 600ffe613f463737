#include "parallel/flight/flight_analysis.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>

#include <fmt/format.h>

namespace foretoken {

namespace {

using Kind = FlightRecord::Kind;
using Operation = FlightRecord::Operation;
using Channel = FlightRecord::Channel;

const Channel& channel_of(const FlightRecord& record, const Operation& operation) {
  return record.channels[static_cast<std::size_t>(operation.channel)];
}

/// Seconds within which the ranks of a job write their records.
constexpr double records_apart = 2;

/// The graph of ranks that wait for other ranks.
class WaitGraph {
 public:
  WaitGraph(const std::vector<FlightFile>& files, int size)
      : records_(static_cast<std::size_t>(size)), edges_(static_cast<std::size_t>(size)) {
    for (const FlightFile& file : files)
      if (file.record.rank < size) records_[static_cast<std::size_t>(file.record.rank)] = &file.record;
    for (int rank = 0; rank < size; ++rank)
      if (record(rank) && record(rank)->waiting) add_edges(rank);
  }

  int size() const { return static_cast<int>(records_.size()); }
  const FlightRecord* record(int rank) const { return records_[static_cast<std::size_t>(rank)]; }
  bool waits(int rank) const { return record(rank) && record(rank)->waiting; }
  const std::set<int>& waits_for(int rank) const { return edges_[static_cast<std::size_t>(rank)]; }
  const std::optional<Divergence>& mismatch() const { return mismatch_; }

  /// All ranks that `rank` waits for, directly or through others.
  std::set<int> reached_from(int rank) const {
    std::set<int> reached;
    std::vector<int> open{rank};
    while (!open.empty()) {
      const int at = open.back();
      open.pop_back();
      for (const int next : waits_for(at))
        if (reached.insert(next).second) open.push_back(next);
    }
    return reached;
  }

  /// Seconds by which a member entered the operation that `rank` waits in after `rank` had; 0 if its part is
  /// not recorded any more. The clocks of two ranks differ, so the times from the start to each rank's record
  /// are compared; the result is exact to records_apart.
  double lateness(int rank, int member) const {
    const FlightRecord &own = *record(rank), &other = *record(member);
    const Operation& operation = *own.waiting;
    const FlightRecord::MessageKey key = counterpart(rank, operation, channel_of(own, operation), other);
    const Operation* part = key.channel < 0 ? nullptr : find(other, key, operation.sequence);
    return part ? (own.now - operation.started) - (other.now - part->started) : 0;
  }

  /// Describes the part of the peers in the operation in which `rank` waits: the same collective, or the
  /// other end of a message.
  std::string part_of_peer(int rank) const {
    FlightRecord::Operation part = *record(rank)->waiting;
    if (part.kind != Kind::collective) part.name = part.kind == Kind::send ? "receive" : "send";
    return describe(*record(rank), part);
  }
  /// Describes the operation in which a rank waits.
  std::string operation_of(int rank) const { return describe(*record(rank), *record(rank)->waiting); }

 private:
  /// Index of the channel with this name in another rank's record, or -1.
  static int same_channel(const FlightRecord& record, const std::string& name) {
    const auto& channels = record.channels;
    const auto found =
        std::find_if(channels.begin(), channels.end(), [&](const Channel& c) { return c.name == name; });
    return found == channels.end() ? -1 : static_cast<int>(found - channels.begin());
  }

  static const Operation* find(const FlightRecord& record, const FlightRecord::MessageKey& key,
                               std::uint64_t sequence) {
    for (const Operation& operation : record.operations)
      if (operation.channel == key.channel && operation.kind == key.kind && operation.sequence == sequence &&
          (key.kind == Kind::collective || (operation.peer == key.peer && operation.tag == key.tag)))
        return &operation;
    return nullptr;
  }

  void add_edges(int rank) {
    const Operation& operation = *record(rank)->waiting;
    const Channel& channel = channel_of(*record(rank), operation);
    if (operation.kind != Kind::collective) {
      const int peer = channel.ranks[static_cast<std::size_t>(operation.peer)];
      add_edge(rank, operation, channel, peer);
      return;
    }
    std::vector<int> entered;
    for (const int member : channel.ranks)
      if (member != rank && !add_edge(rank, operation, channel, member)) entered.push_back(member);
    if (!waits_for(rank).empty()) return;
    // All members have entered the operation. On a GPU, or with several pending operations, another operation
    // may still block a member.
    for (const int member : entered) add_edge_if_blocked(rank, operation, channel, member);
  }

  /// Adds an edge if the member has not started its part; returns false if it has.
  bool add_edge(int rank, const Operation& operation, const Channel& channel, int member) {
    if (member >= size() || member == rank) return true;
    const FlightRecord* other = record(member);
    std::set<int>& edges = edges_[static_cast<std::size_t>(rank)];
    if (!other) {
      edges.insert(member);
      return true;
    }
    const FlightRecord::MessageKey key = counterpart(rank, operation, channel, *other);
    std::uint64_t started = 0;
    if (key.channel >= 0) {
      if (key.kind == Kind::collective) {
        started = other->channels[static_cast<std::size_t>(key.channel)].collectives;
      } else {
        const auto count = other->messages.find(key);
        started = count == other->messages.end() ? 0 : count->second;
      }
    }
    if (started <= operation.sequence) {
      edges.insert(member);
      return true;
    }
    if (key.kind == Kind::collective) compare(rank, operation, *other, find(*other, key, operation.sequence));
    if (operation.kind != Kind::collective) add_edge_if_blocked(rank, operation, channel, member);
    return false;
  }

  /// Key, in the member's record, of the operation's other end.
  static FlightRecord::MessageKey counterpart(int rank, const Operation& operation, const Channel& channel,
                                              const FlightRecord& member) {
    FlightRecord::MessageKey key{.channel = same_channel(member, channel.name)};
    key.kind = operation.kind == Kind::send      ? Kind::receive
               : operation.kind == Kind::receive ? Kind::send
                                                 : Kind::collective;
    const auto own = std::find(channel.ranks.begin(), channel.ranks.end(), rank);
    key.peer = static_cast<int>(own - channel.ranks.begin());
    key.tag = operation.tag;
    return key;
  }

  /// Adds an edge if the member has started its part, the part is not finished, and the member waits in
  /// another operation.
  void add_edge_if_blocked(int rank, const Operation& operation, const Channel& channel, int member) {
    const FlightRecord& other = *record(member);
    if (!other.waiting) return;
    const FlightRecord::MessageKey key = counterpart(rank, operation, channel, other);
    if (key.channel < 0) return;
    const Operation* part = find(other, key, operation.sequence);
    if (part && part->finished < 0 && part->number != other.waiting->number)
      edges_[static_cast<std::size_t>(rank)].insert(member);
  }

  void compare(int rank, const Operation& own, const FlightRecord& other, const Operation* part) {
    if (mismatch_ || !part || (part->name == own.name && part->bytes == own.bytes)) return;
    mismatch_ = {.kind = Divergence::Kind::mismatch,
                 .ranks = {rank, other.rank},
                 .waiting = {},
                 .operation = fmt::format("{} of {} bytes", describe(*record(rank), own), own.bytes),
                 .other = fmt::format("{} of {} bytes", part->name, part->bytes)};
  }

  std::vector<const FlightRecord*> records_;
  std::vector<std::set<int>> edges_;
  std::optional<Divergence> mismatch_;
};

/// Ranks outside `ranks` that wait for one of them, directly or through others.
std::vector<int> waiting_for(const WaitGraph& graph, const std::vector<int>& ranks) {
  std::vector<int> waiting;
  for (int rank = 0; rank < graph.size(); ++rank) {
    if (std::find(ranks.begin(), ranks.end(), rank) != ranks.end()) continue;
    const std::set<int> reached = graph.reached_from(rank);
    if (std::any_of(ranks.begin(), ranks.end(), [&](int r) { return reached.contains(r); }))
      waiting.push_back(rank);
  }
  return waiting;
}

/// The operation of a rank that waits directly for one of `ranks`. A collective is preferred to a message,
/// because it identifies the part of the step that `ranks` did not reach; otherwise the lowest rank is
/// preferred.
std::string awaited_operation(const WaitGraph& graph, const std::vector<int>& ranks) {
  std::string text;
  bool collective = false;
  for (int rank = 0; rank < graph.size(); ++rank) {
    const auto& edges = graph.waits_for(rank);
    if (std::none_of(ranks.begin(), ranks.end(), [&](int r) { return edges.contains(r); })) continue;
    const bool is_collective = graph.record(rank)->waiting->kind == Kind::collective;
    if (!text.empty() && (collective || !is_collective)) continue;
    text = graph.part_of_peer(rank);
    collective = is_collective;
  }
  return text;
}

Divergence divergence_of(const WaitGraph& graph, Divergence::Kind kind, std::vector<int> ranks) {
  Divergence divergence{.kind = kind, .ranks = std::move(ranks), .waiting = {}, .operation = {}, .other = {}};
  divergence.waiting = waiting_for(graph, divergence.ranks);
  divergence.operation = awaited_operation(graph, divergence.ranks);
  return divergence;
}

double idle(const FlightRecord& record) {
  return record.now - record.last_activity;
}

/// Ranks that wait for each other; empty if there is no cycle.
std::vector<int> cycle_in(const WaitGraph& graph) {
  for (int rank = 0; rank < graph.size(); ++rank) {
    const std::set<int> reached = graph.reached_from(rank);
    if (!reached.contains(rank)) continue;
    std::vector<int> cycle;
    for (const int other : reached)
      if (graph.reached_from(other).contains(rank)) cycle.push_back(other);
    return cycle;
  }
  return {};
}

/// The members of an operation that all of them have entered and that does not complete.
std::vector<int> ends_of_connection(const WaitGraph& graph) {
  for (int rank = 0; rank < graph.size(); ++rank) {
    if (!graph.waits(rank) || !graph.waits_for(rank).empty()) continue;
    const FlightRecord& record = *graph.record(rank);
    const Operation& operation = *record.waiting;
    const Channel& channel = record.channels[static_cast<std::size_t>(operation.channel)];
    std::set<int> ends{rank};
    if (operation.kind == Kind::collective)
      ends.insert(channel.ranks.begin(), channel.ranks.end());
    else
      ends.insert(channel.ranks[static_cast<std::size_t>(operation.peer)]);
    return {ends.begin(), ends.end()};
  }
  return {};
}

/// Seconds that a rank has waited, from the start of its operation to its record.
double wait_of(const FlightRecord& record) {
  return record.now - record.waiting->started;
}

/// Whether a rank that came `seconds` after one that waited for `wait` seconds was late for most of that
/// wait.
bool is_late(double seconds, double wait) {
  return seconds > std::max(records_apart, wait / 2);
}

/// The rank that came last to what another rank waited for, and too late. It has either entered the operation
/// in which that rank still waits, or entered its own wait long after that rank.
std::optional<Divergence> late_rank(const WaitGraph& graph) {
  Divergence late{.kind = Divergence::Kind::late, .ranks = {}, .waiting = {}, .operation = {}, .other = {}};
  const auto consider = [&](int rank, int waiting, double seconds, const std::string& operation) {
    if (seconds <= late.seconds || !is_late(seconds, wait_of(*graph.record(waiting)))) return;
    late.ranks = {rank};
    late.waiting = {waiting};
    late.operation = operation;
    late.seconds = seconds;
  };
  for (int waiting = 0; waiting < graph.size(); ++waiting) {
    if (!graph.waits(waiting)) continue;
    const FlightRecord& record = *graph.record(waiting);
    if (graph.waits_for(waiting).empty()) {
      const Operation& operation = *record.waiting;
      const std::vector<int>& members = channel_of(record, operation).ranks;
      for (std::size_t i = 0; i < members.size(); ++i) {
        const bool takes_part = operation.kind == Kind::collective || operation.peer == static_cast<int>(i);
        if (takes_part && members[i] < graph.size())
          consider(members[i], waiting, graph.lateness(waiting, members[i]), graph.part_of_peer(waiting));
      }
    }
    for (const int rank : graph.waits_for(waiting))
      if (graph.waits(rank))
        consider(rank, waiting, wait_of(record) - wait_of(*graph.record(rank)), graph.part_of_peer(waiting));
  }
  if (late.ranks.empty()) return std::nullopt;
  return late;
}

}  // namespace

std::string describe(const FlightRecord& record, const Operation& operation) {
  const Channel& channel = channel_of(record, operation);
  std::string text = fmt::format("{} #{}", operation.name, operation.sequence + 1);
  if (operation.kind != Kind::collective) {
    const int peer = channel.ranks[static_cast<std::size_t>(operation.peer)];
    const bool sends = operation.kind == Kind::send;
    text += fmt::format(" from rank {} to rank {}", sends ? record.rank : peer, sends ? peer : record.rank);
    if (operation.tag >= 0) text += fmt::format(" with tag {}", operation.tag);
  }
  return text + fmt::format(" of \"{}\"", channel.name);
}

namespace {

/// A rank whose process did not run for most of the time that another rank waited.
std::optional<Divergence> paused_rank(const WaitGraph& graph, const std::vector<FlightFile>& files) {
  // Seconds of the file's pause within the last `wait` seconds before its record.
  const auto paused_within = [](const FlightFile& file, double wait) {
    if (!file.pause) return 0.0;
    return std::max(0.0, std::min(file.pause->seconds, wait - file.pause->before_record));
  };
  Divergence paused{
      .kind = Divergence::Kind::paused, .ranks = {}, .waiting = {}, .operation = {}, .other = {}};
  for (const FlightFile& waiting : files) {
    if (!graph.waits(waiting.record.rank)) continue;
    const double wait = wait_of(waiting.record);
    for (const FlightFile& file : files) {
      const double seconds = paused_within(file, wait);
      if (seconds <= paused.seconds || !is_late(seconds - paused_within(waiting, wait), wait)) continue;
      paused.ranks = {file.record.rank};
      paused.waiting = {waiting.record.rank};
      paused.operation = graph.operation_of(waiting.record.rank);
      paused.seconds = seconds;
    }
  }
  if (paused.ranks.empty()) return std::nullopt;
  return paused;
}

}  // namespace

Divergence first_divergence(const std::vector<FlightFile>& files, int size) {
  const WaitGraph graph(files, size);
  if (graph.mismatch()) {
    Divergence divergence = *graph.mismatch();
    divergence.waiting = waiting_for(graph, divergence.ranks);
    return divergence;
  }

  std::vector<int> missing, computing;
  for (int rank = 0; rank < size; ++rank) {
    if (!graph.record(rank))
      missing.push_back(rank);
    else if (!graph.waits(rank))
      computing.push_back(rank);
  }
  if (!missing.empty()) {
    // A missing rank that no rank waits for may only have failed to write its record.
    std::vector<int> awaited;
    std::copy_if(missing.begin(), missing.end(), std::back_inserter(awaited),
                 [&](int rank) { return !waiting_for(graph, {rank}).empty(); });
    return divergence_of(graph, Divergence::Kind::no_record, awaited.empty() ? missing : awaited);
  }

  if (const std::optional<Divergence> paused = paused_rank(graph, files)) return *paused;

  // Chooses among the ranks that are in no communication: first a rank that others wait for, then the rank
  // that has been idle longest.
  const auto before = [&](int a, int b) {
    const bool awaited_a = !awaited_operation(graph, {a}).empty(),
               awaited_b = !awaited_operation(graph, {b}).empty();
    if (awaited_a != awaited_b) return awaited_a;
    return idle(*graph.record(a)) > idle(*graph.record(b));
  };
  const auto first = std::min_element(computing.begin(), computing.end(), before);
  if (first != computing.end()) {
    Divergence divergence = divergence_of(graph, Divergence::Kind::absent, {*first});
    divergence.seconds = idle(*graph.record(*first));
    if (!divergence.waiting.empty()) return divergence;
  }
  if (const std::optional<Divergence> late = late_rank(graph)) return *late;
  if (std::vector<int> cycle = cycle_in(graph); !cycle.empty())
    return divergence_of(graph, Divergence::Kind::cycle, std::move(cycle));
  if (std::vector<int> ends = ends_of_connection(graph); !ends.empty()) {
    Divergence divergence = divergence_of(graph, Divergence::Kind::connection, std::move(ends));
    for (const int rank : divergence.ranks)
      if (graph.waits(rank) && graph.waits_for(rank).empty()) {
        divergence.operation = graph.operation_of(rank);
        break;
      }
    return divergence;
  }
  return {};
}

}  // namespace foretoken

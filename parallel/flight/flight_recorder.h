#pragma once
// Records the most recent communications of this rank. If ranks wait for each other beyond the time limit,
// the records of all ranks together show which rank blocks them (parallel/flight/flight_analysis.h).
//
// Thread-safe: the watchdog reads the recorder while the rank computes.

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace foretoken {

/// The state of one rank at the time of its record (parallel/flight/flight_record.h reads and writes the
/// file).
struct FlightRecord {
  enum class Kind { collective, send, receive };

  /// A group of ranks with its own sequence of operations. All members use the same name for the group.
  struct Channel {
    std::string name;
    std::vector<int> ranks;  // world ranks, indexed by rank in the group
    /// Number of collectives that this rank has started.
    std::uint64_t collectives = 0;
    bool operator==(const Channel&) const = default;
  };
  /// Messages of one channel, direction, peer and tag arrive in the order they are sent.
  struct MessageKey {
    int channel = 0;
    Kind kind = Kind::send;
    int peer = 0;  // rank in the group
    int tag = 0;
    auto operator<=>(const MessageKey&) const = default;
  };
  struct Operation {
    std::uint64_t number = 0;  // counts the operations of this rank from 0, over all channels
    std::string name;          // "all-reduce"
    Kind kind = Kind::collective;
    int channel = 0;
    /// Position from 0 among the channel's collectives, or among the messages of its MessageKey. Equal on all
    /// ranks that take part.
    std::uint64_t sequence = 0;
    std::uint64_t bytes = 0;  // size of this rank's tensor
    int peer = -1;            // the other rank, or a broadcast's root, in the group; -1: none
    int tag = -1;             // -1: none
    double started = 0;       // seconds since the recorder was created
    double finished = -1;     // -1: not finished
    bool operator==(const Operation&) const = default;
  };

  int rank = 0;
  int size = 1;
  std::string start_utc;  // UTC time of second 0
  double now = 0;         // time of the record, in seconds like all times here
  std::vector<Channel> channels;
  std::map<MessageKey, std::uint64_t> messages;  // number of messages that this rank has started
  std::vector<Operation> operations;             // the most recent operations, oldest first
  /// The operation that the host waits for; absent while the host computes, reads or writes files.
  std::optional<Operation> waiting;
  double last_activity = 0;  // time at which an operation last started or finished, or a wait ended
};

/// Name in the file (runtime/enum_names.h).
constexpr std::string_view name_of(FlightRecord::Kind kind) {
  switch (kind) {
    case FlightRecord::Kind::collective:
      return "collective";
    case FlightRecord::Kind::send:
      return "send";
    case FlightRecord::Kind::receive:
      return "receive";
  }
  return {};
}

class FlightRecorder {
 public:
  using Kind = FlightRecord::Kind;

  /// Operation number for a Wait on the oldest operation that is unfinished at the time of the record.
  static constexpr std::uint64_t oldest_unfinished = ~std::uint64_t{0};

  explicit FlightRecorder(std::size_t capacity = 1024);

  /// Adds a channel over these world ranks and returns its number. If the name is in use, appends a counter:
  /// "world (2)". Ranks that add the same channels in the same order get the same names.
  int add_channel(const std::string& name, std::vector<int> world_ranks);

  /// Records the start of an operation and returns its number. `operation` must be a string literal.
  std::uint64_t start(const char* operation, int channel, Kind kind, std::uint64_t bytes, int peer = -1,
                      int tag = -1);
  void finish(std::uint64_t number);

  /// While the object lives, the host waits for this operation, with this limit. If an exception ends the
  /// wait, the wait stays recorded until the next one.
  class [[nodiscard]] Wait {
   public:
    Wait(FlightRecorder& recorder, std::uint64_t number, std::chrono::duration<double> limit);
    ~Wait();
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;

   private:
    FlightRecorder& recorder_;
    int exceptions_;  // number of exceptions in flight when the wait started
  };

  /// Returns channels, counts and the most recent operations. The caller sets rank and size.
  FlightRecord record() const;

  /// Seconds by which the current wait exceeds its limit: negative within the limit, absent if the host does
  /// not wait.
  std::optional<double> overdue() const;
  /// Seconds since the host last started an operation, finished one or ended a wait.
  double idle() const;

 private:
  struct Entry {
    std::uint64_t number = 0;
    const char* operation = "";
    Kind kind = Kind::collective;
    int channel = 0;
    std::uint64_t sequence = 0, bytes = 0;
    int peer = -1, tag = -1;
    double started = 0, finished = -1;
  };
  struct Waiting {
    std::uint64_t number = 0;
    double since = 0, limit = 0;
  };
  struct KeyHash {
    std::size_t operator()(const FlightRecord::MessageKey& key) const;
  };

  double now() const;
  FlightRecord::Operation operation_of(const Entry& entry) const;

  const std::chrono::system_clock::time_point begin_utc_ = std::chrono::system_clock::now();
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;
  std::uint64_t next_ = 0;
  std::vector<Entry> ring_;
  std::vector<FlightRecord::Channel> channels_;
  std::unordered_map<FlightRecord::MessageKey, std::uint64_t, KeyHash> messages_;
  std::optional<Waiting> waiting_;
  double last_activity_ = 0;
};

}  // namespace foretoken

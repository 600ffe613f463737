#pragma once
// One queue of communications between fixed ranks: an NCCL communicator and its own stream, on which the
// communications run one after another.

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nccl.h>

#include "parallel/comm/cuda/handshake.h"
#include "parallel/comm/cuda/nccl_transport.h"
#include "parallel/comm/mpi_communicator.h"
#include "runtime/cuda/handle.h"
#include "runtime/timing/timeline.h"

namespace foretoken::cuda {

class NcclLink {
 public:
  struct Members {
    ncclUniqueId id{};  // the same on all members
    int ranks = 1;
    int rank = 0;
    /// For a link that carries messages between two ranks: whether this rank sends, the peer's rank in the
    /// group, and a tag that distinguishes links in the flight recorder. For collectives peer is -1.
    bool sends = false;
    int peer = -1;
    int tag = -1;
    /// Maximum number of thread blocks of the link's kernels; 0: NCCL's choice.
    int blocks = 0;
  };
  /// Collective over the members. `channel` is the group's number in the flight recorder. `group` describes
  /// the operations in error messages; group and transport must outlive the link. `handshakes` is empty, or
  /// has one entry per other member, null if Handshake::connect() returned null. Each operation starts with
  /// them.
  NcclLink(NcclTransport& transport, const MpiCommunicator& group, int channel, const Members& members,
           std::vector<std::unique_ptr<Handshake>> handshakes = {});
  /// Finalizes the communicator together with the other members. Abandons the GPU instead if they do not
  /// arrive or if an exception is in flight.
  ~NcclLink();
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  /// Starts an operation that runs after all work enqueued on the compute stream so far. call(communicator,
  /// stream) enqueues it and returns NCCL's result. `peer` is the rank in the group of the other end of a
  /// message or of a broadcast's root; otherwise -1.
  template <class Call>
  Request start(const char* name, std::size_t bytes, int peer, const Call& call) {
    begin(name, bytes, peer);
    await_enqueued(call(communicator_, stream_.get()));
    return finish_start();
  }

  /// Marks completed operations. If NCCL has reported a failure, abandons all links of the rank and throws
  /// PeerError, as does every later call.
  void check();
  static constexpr std::uint64_t none = ~std::uint64_t{0};
  /// Number, in the flight recorder, of the oldest pending operation, or `none`.
  std::uint64_t oldest() const { return pending_.empty() ? none : pending_.front()->sequence; }
  std::string describe_oldest() const;
  /// Makes the link unusable.
  void abandon() { communicator_ = nullptr; }

 private:
  struct Operation {
    const char* name = "";
    std::size_t bytes = 0;
    int peer = -1;
    std::uint64_t sequence = 0;
    EventHandle done;
    bool complete = false;
    std::size_t span = 0;  // number of its span in the timeline; unused without a timeline
  };
  class Pending;

  FlightRecorder& recorder() { return transport_.recorder(); }
  /// Records the start of an operation; returns its number.
  std::uint64_t record(const char* name, std::size_t bytes, int peer);
  void begin(const char* name, std::size_t bytes, int peer);
  void await_enqueued(ncclResult_t result);
  Request finish_start();
  void collect();
  std::string describe(const Operation& operation) const;
  TimelineSpan span_of(const Operation& operation) const;
  [[noreturn]] void fail(ncclResult_t result);

  NcclTransport& transport_;
  const MpiCommunicator& group_;
  const int channel_;
  const FlightRecorder::Kind kind_;
  const int tag_;
  StreamHandle stream_;
  EventHandle ready_;  // recorded on the compute stream at the start of the latest operation
  std::vector<std::unique_ptr<Handshake>> handshakes_;
  ncclComm_t communicator_ = nullptr;
  std::shared_ptr<Operation> starting_;
  std::deque<std::shared_ptr<Operation>> pending_;  // oldest first
};

}  // namespace foretoken::cuda

#pragma once
// One queue of communications between fixed ranks: an NCCL communicator and the stream of its own on which
// they run, one after another.

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nccl.h>

#include "parallel/cuda/handshake.h"
#include "parallel/cuda/nccl_transport.h"
#include "parallel/mpi_communicator.h"
#include "runtime/cuda/handle.h"
#include "runtime/timeline.h"

namespace foretoken::cuda {

class NcclLink {
 public:
  struct Members {
    ncclUniqueId id{};  // the same on all
    int ranks = 1;
    int rank = 0;
    /// Of a link for messages between two ranks: whether this rank sends, the other's rank in the group, and
    /// the tag by which the flight recorder tells links apart. Of a link for collectives: a peer of -1.
    bool sends = false;
    int peer = -1;
    int tag = -1;
    /// Thread blocks of its kernels at most; 0: NCCL's choice.
    int blocks = 0;
  };
  /// Collective over the members. `channel` is the group's in the flight recorder. `group` is what its
  /// operations are named by; it and the transport must outlive the link. Each operation begins with the
  /// handshakes, one with each other member where there are any, null where it is not to be had.
  NcclLink(NcclTransport& transport, const MpiCommunicator& group, int channel, const Members& members,
           std::vector<std::unique_ptr<Handshake>> handshakes = {});
  /// Leaves in agreement with the other members, or abandons the GPU where they do not come or an exception
  /// is on its way.
  ~NcclLink();
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  /// An operation after all that the compute stream has so far: call(communicator, stream) returns NCCL's
  /// result. `peer` is the other end of a message or the root of a broadcast, a rank of the group, or -1.
  template <class Call>
  Request start(const char* name, std::size_t bytes, int peer, const Call& call) {
    begin(name, bytes, peer);
    settle(call(communicator_, stream_.get()));
    return finish_start();
  }

  /// Notes what has completed. A PeerError, all links abandoned, where NCCL has noticed a failure, now or
  /// before.
  void check();
  static constexpr std::uint64_t none = ~std::uint64_t{0};
  /// The flight recorder's number of the operation that is under way longest, or none.
  std::uint64_t oldest() const { return under_way_.empty() ? none : under_way_.front()->sequence; }
  std::string describe_oldest() const;
  /// The link is of no more use.
  void abandon() { communicator_ = nullptr; }

 private:
  struct Operation {
    const char* name = "";
    std::size_t bytes = 0;
    int peer = -1;
    std::uint64_t sequence = 0;
    EventHandle done;
    bool complete = false;
    std::size_t span = 0;  // of the timeline, where there is one
  };
  class Pending;

  FlightRecorder& recorder() { return transport_.recorder(); }
  /// Records a start; returns the operation's number.
  std::uint64_t record(const char* name, std::size_t bytes, int peer);
  void begin(const char* name, std::size_t bytes, int peer);
  void settle(ncclResult_t result);
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
  EventHandle ready_;  // the compute stream at the start of the latest operation
  std::vector<std::unique_ptr<Handshake>> handshakes_;
  ncclComm_t communicator_ = nullptr;
  std::shared_ptr<Operation> starting_;
  std::deque<std::shared_ptr<Operation>> under_way_;  // oldest first
};

}  // namespace foretoken::cuda

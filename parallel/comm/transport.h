#pragma once
// A transport creates the communicators of a rank's groups, for tensors of the rank's device: over MPI for
// the CPU, over NCCL for a GPU, and over MPI through host memory if ranks share a GPU. NCCL does not work on
// a shared GPU. Sharing is meant for trials.

#include <memory>
#include <string>

#include "parallel/comm/mpi_communicator.h"
#include "runtime/stream.h"

namespace foretoken {

/// The kinds of communication in a group. NCCL runs the operations of one queue in order. So that a send
/// never waits for a receive, collectives have one queue and each direction between two neighbours has
/// another. Messages from one rank to another must be received in the order of the sends. If two ranks are
/// neighbours on both sides (`ring` in a group of two), this order holds separately for even and for odd
/// tags.
struct Traffic {
  bool collectives = false;
  bool may_start_early = false;     // a rank may start a collective long before the others reach it
  bool neighbour_messages = false;  // in both directions between ranks r and r + 1
  bool ring = false;                // neighbour messages also between the last rank and the first
};

class Transport {
 public:
  virtual ~Transport() = default;

  /// Creates a communicator of these ranks for tensors of the stream's device. Collective over the ranks. The
  /// transport must outlive the communicator.
  virtual std::unique_ptr<Communicator> connect(std::unique_ptr<MpiCommunicator> ranks,
                                                const Traffic& traffic) = 0;

  /// Returns when all work enqueued on the compute stream has completed. Call it before the host reads a
  /// result that depends on other ranks: over NCCL, Stream::synchronize() would wait forever for a peer that
  /// is gone.
  ///
  /// MPI: returns immediately, because operators on a CPU have run when they return. NCCL: throws PeerError,
  /// naming operation and peer, if NCCL reports a failure or if an operation is pending and none completes
  /// within MpiLimits::wait; all links of this rank are unusable then. Through host memory: progresses
  /// pending operations while it waits, and has no time limit, because the stream waits for no peer.
  virtual void synchronize() = 0;

  /// "NCCL 2.28.9"; "messages through host memory: ranks 0 and 1 share a GPU"
  virtual const std::string& description() const = 0;
};

/// Creates the transport for the stream's device. Collective over the world. World and stream must outlive
/// the transport.
std::unique_ptr<Transport> make_transport(MpiCommunicator& world, Stream& stream);

#if FORETOKEN_WITH_CUDA
namespace cuda {
std::unique_ptr<Transport> make_transport(MpiCommunicator& world, Stream& stream);
}
#endif

}  // namespace foretoken

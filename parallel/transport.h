#pragma once
// How tensors of a rank's device get to other ranks. A transport makes the communicators of the rank's
// groups: over MPI for tensors on the CPU; over NCCL for a GPU; over MPI through host memory where ranks
// share a GPU, which NCCL refuses and which is meant for trials.

#include <memory>
#include <string>

#include "parallel/mpi_communicator.h"
#include "runtime/stream.h"

namespace foretoken {

/// What goes over a group. NCCL runs what it is given in one order per queue, so it gets a queue for the
/// collectives and one per direction between two neighbours: a send never waits behind a receive. From one
/// rank to another messages must be received in the order they are sent. Where two ranks are neighbours on
/// both sides (`around` a group of two), that holds for messages of even tags and for those of odd tags.
struct Traffic {
  bool collectives = false;
  bool waiting = false;     // collectives start long before some of the ranks come to them
  bool neighbours = false;  // messages both ways between ranks r and r + 1
  bool around = false;      // and between the last rank and the first
};

class Transport {
 public:
  virtual ~Transport() = default;

  /// Over these ranks, for tensors of the stream's device. Collective over them. The transport must outlive
  /// it.
  virtual std::unique_ptr<Communicator> connect(std::unique_ptr<MpiCommunicator> ranks,
                                                const Traffic& traffic) = 0;

  /// Returns when all that was enqueued on the compute stream has run. Stream::synchronize() would wait for
  /// ever for a peer that is gone; this ends with a PeerError, naming operation and peer, where NCCL reports
  /// a failure or no communication ends within MpiLimits::wait. No communicator is of use then. To be called
  /// before the host reads anything that depends on other ranks.
  virtual void synchronize() = 0;

  /// "NCCL 2.28.9"; "messages through host memory: ranks 0 and 1 share a GPU"
  virtual const std::string& description() const = 0;
};

/// For tensors of the stream's device. Collective over the world, which must outlive it, as must the stream.
std::unique_ptr<Transport> make_transport(MpiCommunicator& world, Stream& stream);

#if FORETOKEN_WITH_CUDA
namespace cuda {
std::unique_ptr<Transport> make_transport(MpiCommunicator& world, Stream& stream);
}
#endif

}  // namespace foretoken

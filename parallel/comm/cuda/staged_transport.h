#pragma once
// Transport through host memory, for ranks that share a GPU. The compute stream copies a sent tensor to
// page-locked memory, then MPI sends it; the compute stream copies a received tensor back.
//
// The MPI call of an operation starts when the operation's copy has run. The MPI calls start in the order in
// which the callers started the operations. Every test or wait, and every wait for MPI, progresses all
// operations of the rank, so a send also starts while its caller waits for another operation.

#include <list>
#include <memory>
#include <string>

#include "parallel/comm/transport.h"
#include "runtime/cuda/context.h"
#include "runtime/cuda/handle.h"
#include "runtime/cuda/memory.h"

namespace foretoken::cuda {

/// Page-locked memory, used by one operation at a time.
struct StagingBuffer {
  Handle<void*, free_page_locked> memory;
  std::size_t bytes = 0;
  EventHandle copied;  // the last copy from or to it
  bool in_use = false;
};

class StagedOperation;

class StagedTransport final : public Transport, private Background {
 public:
  StagedTransport(MpiWorld& world, Stream& stream, std::string reason);
  ~StagedTransport() override;
  StagedTransport(const StagedTransport&) = delete;
  StagedTransport& operator=(const StagedTransport&) = delete;

  std::unique_ptr<Communicator> connect(std::unique_ptr<MpiCommunicator> ranks,
                                        const Traffic& traffic) override;
  void synchronize() override;
  const std::string& description() const override { return description_; }

  // Used by StagedOperation:

  Stream& stream() { return stream_; }
  Seconds limit() { return world_.limits().wait; }
  FlightRecorder& recorder() { return world_.recorder(); }
  /// Returns a free buffer of at least `bytes` and marks it in use; clear in_use to release it. Allocates a
  /// buffer if none is free and large enough.
  StagingBuffer& take_buffer(std::size_t bytes);
  void add(StagedOperation& operation) { pending_.push_back(&operation); }
  void remove(StagedOperation& operation) { pending_.remove(&operation); }
  /// Progresses all operations; returns immediately.
  void progress() override;

 private:
  MpiWorld& world_;
  Stream& stream_;
  std::string description_;
  std::list<StagingBuffer> buffers_;
  std::list<StagedOperation*> pending_;  // in start order
};

}  // namespace foretoken::cuda

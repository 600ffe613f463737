#pragma once
// Transport through host memory, for ranks that share a GPU: what goes out is copied to page-locked memory
// by the compute stream, then MPI takes it; what has come in is copied back by the compute stream.
//
// MPI is told of an operation when its copy has run, and operations in the order in which they were started.
// All of a rank's are moved on whenever one is asked after, and in every wait of MPI's: a send whose copy had
// not run when its owner went on to wait for something else still goes out.

#include <list>
#include <memory>
#include <string>

#include "parallel/transport.h"
#include "runtime/cuda/context.h"
#include "runtime/cuda/handle.h"
#include "runtime/cuda/memory.h"

namespace foretoken::cuda {

/// Page-locked memory that one operation after another passes through.
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

  // For its operations:

  Stream& stream() { return stream_; }
  Seconds limit() { return world_.limits().wait; }
  FlightRecorder& recorder() { return world_.recorder(); }
  /// A buffer that nothing uses, until it is told otherwise. Allocates where there is none so large.
  StagingBuffer& take_buffer(std::size_t bytes);
  void add(StagedOperation& operation) { under_way_.push_back(&operation); }
  void remove(StagedOperation& operation) { under_way_.remove(&operation); }
  /// Moves all operations on that can be; returns at once.
  void progress() override;

 private:
  MpiWorld& world_;
  Stream& stream_;
  std::string description_;
  std::list<StagingBuffer> buffers_;
  std::list<StagedOperation*> under_way_;  // in the order of their starts
};

}  // namespace foretoken::cuda

#pragma once
// One communication through host memory: copy out, communicate, copy in.

#include <functional>

#include "parallel/comm/communicator.h"
#include "parallel/comm/cuda/staged_transport.h"

namespace foretoken::cuda {

class StagedOperation final : public Request::Pending {
 public:
  struct Plan {
    const MpiCommunicator& ranks;
    const char* name;
    int peer = -1;
    int tag = -1;
    Tensor whole;  // the host copy; the caller sets dtype and shape, the constructor the memory
    Tensor from;   // on the GPU, copied to the host first; may be undefined
    std::int64_t from_begin = 0;  // index in `whole` of the first element of `from`
    Tensor to;                    // on the GPU, copied from the host at the end; may be undefined
    std::int64_t to_begin = 0;    // index in `whole` of the first element of `to`
    std::function<Request(const Tensor& whole)> communicate;  // starts the MPI call on the host copy
  };
  /// Enqueues the copy to the host.
  StagedOperation(StagedTransport& transport, Plan plan);
  /// Returns the buffer for reuse, unless MPI still uses it.
  ~StagedOperation() override;
  StagedOperation(const StagedOperation&) = delete;
  StagedOperation& operator=(const StagedOperation&) = delete;

  bool test() override;
  void wait() override;

  /// Starts the MPI call if the copy to the host has run; returns whether the call has started.
  bool start_when_copied();
  /// Enqueues the copy to the GPU if the MPI call is complete; returns whether the copy is enqueued. Work
  /// enqueued later reads the received data.
  bool finish_when_communicated();

 private:
  enum class State { copying, communicating, complete };

  StagedTransport& transport_;
  Plan plan_;
  StagingBuffer& buffer_;
  Request request_;
  State state_ = State::copying;
};

}  // namespace foretoken::cuda

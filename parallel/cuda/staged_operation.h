#pragma once
// One communication through host memory: copy out, communicate, copy in.

#include <functional>

#include "parallel/communicator.h"
#include "parallel/cuda/staged_transport.h"

namespace foretoken::cuda {

class StagedOperation final : public Request::Pending {
 public:
  struct Plan {
    const MpiCommunicator& ranks;
    const char* name;
    int peer = -1;
    int tag = -1;
    Tensor whole;                 // what the host holds of it: its dtype and elements
    Tensor from;                  // on the GPU, copied out before; may be undefined
    std::int64_t from_begin = 0;  // its place in the whole
    Tensor to;                    // on the GPU, copied in afterwards; may be undefined
    std::int64_t to_begin = 0;    // its place in the whole
    std::function<Request(const Tensor& whole)> communicate;  // over the whole, on the host
  };
  /// Enqueues the copy out.
  StagedOperation(StagedTransport& transport, Plan plan);
  /// Gives its buffer back, unless MPI still uses it.
  ~StagedOperation() override;
  StagedOperation(const StagedOperation&) = delete;
  StagedOperation& operator=(const StagedOperation&) = delete;

  bool test() override;
  void wait() override;

  /// True once MPI has been told of it.
  bool start_when_copied();
  /// True once it is complete: what arrived will be on the GPU before what is enqueued next runs.
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

#pragma once
// Every operator takes the stream it runs on; the operators of a stream run in order. On the CPU a stream is
// the rank's thread pool, and an operator has completed when it returns. On a GPU the operator is only
// enqueued.

#include "runtime/backend.h"
#include "runtime/host/thread_pool.h"
#include "runtime/tensor.h"

namespace foretoken {

namespace cuda {
class Context;
}
class Profile;
class Timeline;

class Stream {
 public:
  explicit Stream(ThreadPool& threads) : threads_(&threads) {}
  /// Operators run on the context's GPU, host work on the threads.
  Stream(ThreadPool& threads, cuda::Context& context) : threads_(&threads), cuda_(&context) {}

  DeviceKind device() const { return cuda_ ? DeviceKind::cuda : DeviceKind::cpu; }
  ThreadPool& threads() const { return *threads_; }
  /// Valid only for a CUDA stream.
  cuda::Context& cuda() const { return *cuda_; }
  /// Returns when all enqueued work has completed.
  void synchronize();

  /// Operators add their times to this profile while it is set.
  void set_profile(Profile* profile) { profile_ = profile; }
  Profile* profile() const { return profile_; }
  /// Spans of work are recorded in this timeline while it is set.
  void set_timeline(Timeline* timeline) { timeline_ = timeline; }
  Timeline* timeline() const { return timeline_; }
  /// Whether spans of work are marked as NVTX ranges (runtime/timing/nvtx.h).
  void set_nvtx(bool on) { nvtx_ = on; }
  bool nvtx() const { return nvtx_; }

 private:
  Profile* profile_ = nullptr;
  Timeline* timeline_ = nullptr;
  bool nvtx_ = false;
  ThreadPool* threads_;
  cuda::Context* cuda_ = nullptr;
};

}  // namespace foretoken

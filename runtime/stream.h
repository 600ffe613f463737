#pragma once
// Where operators run: every operator takes the stream it is to run on, and runs there in order. On the CPU a
// stream is the rank's thread pool and an operator has run when it returns; on a GPU it is enqueued only.

#include "runtime/backend.h"
#include "runtime/tensor.h"
#include "runtime/thread_pool.h"

namespace foretoken {

namespace cuda {
class Context;
}
class Profile;
class Timeline;

class Stream {
 public:
  explicit Stream(ThreadPool& threads) : threads_(&threads) {}
  /// On the context's GPU; the threads do what remains for the host.
  Stream(ThreadPool& threads, cuda::Context& context) : threads_(&threads), cuda_(&context) {}

  DeviceKind device() const { return cuda_ ? DeviceKind::cuda : DeviceKind::cpu; }
  ThreadPool& threads() const { return *threads_; }
  /// Of a CUDA stream alone.
  cuda::Context& cuda() const { return *cuda_; }
  /// Returns when all that was enqueued has run.
  void synchronize();

  /// Operators add their times to it while it is set.
  void set_profile(Profile* profile) { profile_ = profile; }
  Profile* profile() const { return profile_; }
  /// Spans of work are recorded there while it is set.
  void set_timeline(Timeline* timeline) { timeline_ = timeline; }
  Timeline* timeline() const { return timeline_; }

 private:
  Profile* profile_ = nullptr;
  Timeline* timeline_ = nullptr;
  ThreadPool* threads_;
  cuda::Context* cuda_ = nullptr;
};

}  // namespace foretoken

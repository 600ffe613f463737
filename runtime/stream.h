#pragma once
// Where operators run: every operator takes the stream it is to run on. On the CPU a stream is the rank's
// thread pool and runs in order, at once; a CUDA stream comes behind the same type.

#include "runtime/tensor.h"
#include "runtime/thread_pool.h"

namespace foretoken {

class Profile;

class Stream {
 public:
  explicit Stream(ThreadPool& threads) : threads_(&threads) {}

  DeviceKind device() const { return DeviceKind::cpu; }
  ThreadPool& threads() const { return *threads_; }
  /// Returns when all that was enqueued has run.
  void synchronize() {}

  /// Operators add their times to it while it is set.
  void set_profile(Profile* profile) { profile_ = profile; }
  Profile* profile() const { return profile_; }

 private:
  Profile* profile_ = nullptr;
  ThreadPool* threads_;
};

}  // namespace foretoken

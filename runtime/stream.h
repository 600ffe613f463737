#pragma once
// Where operators run: every operator takes the stream it is to run on. On the CPU a stream is the rank's
// thread pool and runs in order, at once; a CUDA stream comes behind the same type.

#include "runtime/tensor.h"
#include "runtime/thread_pool.h"

namespace foretoken {

class Stream {
 public:
  explicit Stream(ThreadPool& threads) : threads_(&threads) {}

  DeviceKind device() const { return DeviceKind::cpu; }
  ThreadPool& threads() const { return *threads_; }
  /// Returns when all that was enqueued has run.
  void synchronize() {}

 private:
  ThreadPool* threads_;
};

}  // namespace foretoken

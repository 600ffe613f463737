#pragma once
// RAII owners of C handles: a stream, an event, a library handle.

#include <atomic>
#include <utility>

#include <cuda_runtime_api.h>

#include "runtime/cuda/check.h"

namespace foretoken::cuda {

/// True once work on the GPU may never complete, because peers that it waits for are gone. Freeing memory
/// would wait for such work, so from then on no handle is destroyed: the process is about to exit.
inline std::atomic<bool> gpu_abandoned{false};

/// Move-only. `destroy` is called once; its error is ignored, because a destructor must not throw.
template <class T, auto destroy>
class Handle {
 public:
  Handle() = default;
  explicit Handle(T handle) : handle_(handle) {}
  Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, T{})) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Handle() {
    if (handle_ != T{} && !gpu_abandoned) destroy(handle_);
  }

  T get() const { return handle_; }
  /// Address of the handle, for C functions that create one and return it through a pointer.
  T* out() { return &handle_; }

 private:
  T handle_{};
};

using StreamHandle = Handle<cudaStream_t, cudaStreamDestroy>;
using EventHandle = Handle<cudaEvent_t, cudaEventDestroy>;

inline EventHandle make_event(unsigned flags = cudaEventDisableTiming) {
  EventHandle event;
  check(cudaEventCreateWithFlags(event.out(), flags), "event");
  return event;
}

/// Device memory that grows on demand; growing discards the contents.
class Buffer {
 public:
  void* reserve(std::size_t bytes) {
    if (bytes > bytes_) {
      memory_ = {};
      check(cudaMalloc(memory_.out(), bytes), "workspace");
      bytes_ = bytes;
    }
    return memory_.get();
  }

 private:
  Handle<void*, cudaFree> memory_;
  std::size_t bytes_ = 0;
};

}  // namespace foretoken::cuda

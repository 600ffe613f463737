#pragma once
// NVTX ranges: named spans of the host's time. Nsight Systems shows them, and the GPU work that was enqueued
// in them. Off unless Stream::set_nvtx(true); without a profiler a range costs some nanoseconds. A build
// without CUDA has none.

#include "runtime/backend.h"
#include "runtime/stream.h"

namespace foretoken {

// Ranges of a thread nest: pop_nvtx() ends the range that started last.
void push_nvtx(const char* name);
void pop_nvtx();

/// A range until the end of the scope, if the stream has ranges.
class NvtxRange {
 public:
  NvtxRange(const Stream& stream, const char* name) : on_(with_cuda && stream.nvtx()) {
    if constexpr (with_cuda)
      if (on_) push_nvtx(name);
  }
  ~NvtxRange() {
    if constexpr (with_cuda)
      if (on_) pop_nvtx();
  }
  NvtxRange(const NvtxRange&) = delete;
  NvtxRange& operator=(const NvtxRange&) = delete;

 private:
  bool on_;
};

}  // namespace foretoken

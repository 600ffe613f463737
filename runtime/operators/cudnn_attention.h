#pragma once
// The operators of attention.h as cuDNN's fused kernels, for the calls that these kernels take.
//
// A plan is found once per shape: cuDNN compiles its candidates and, unless the results must be
// deterministic, they are timed on scratch memory. That takes seconds and synchronizes the device, so ask for
// workspace() or supports() before training starts and never while a stream is captured. Running a plan
// allocates nothing and does not wait.
//
// Deterministic backward on Hopper holds dS in full: its workspace is about 2·B·NH·T² bytes with every cuDNN
// before 9.25. Otherwise a workspace grows as T.

#include <cstddef>
#include <memory>

#include <cuda_runtime_api.h>

#include "runtime/operators/attention.h"

namespace foretoken::cuda {

/// For one stream of the current device. Not to be used from two threads at once.
class CudnnAttention {
 public:
  CudnnAttention(cudaStream_t stream, bool deterministic);
  ~CudnnAttention();
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;

  /// bf16 without documents, HS a multiple of 8 and at most 128, and a shape that cuDNN does not refuse.
  bool supports(const AttentionForward& op);
  bool supports(const AttentionBackward& op);

  /// Bytes; data but document_start's may be null. A DefectError with the reason where supports() is false.
  std::size_t workspace(const AttentionForward& op);
  std::size_t workspace(const AttentionBackward& op);

  /// All pointers are multiples of 16, the workspace of 256.
  void forward(const AttentionForward& op, void* workspace);
  void backward(const AttentionBackward& op, void* workspace);

 private:
  class Plans;
  std::unique_ptr<Plans> plans_;
};

}  // namespace foretoken::cuda

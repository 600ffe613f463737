#pragma once
// The operators of attention.h with cuDNN's fused kernels, for the calls that these kernels support.
//
// A plan is found once per shape: cuDNN compiles its candidates and, unless the results must be
// deterministic, times them on scratch memory. This takes seconds and synchronizes the device, so call
// workspace() or supports() before training starts and never while a stream is captured. Running a plan
// allocates nothing and does not wait.
//
// Deterministic backward on Hopper stores all of dS: its workspace is about 2·B·NH·T² bytes with every cuDNN
// version before 9.25. All other workspaces grow linearly with T.

#include <cstddef>
#include <memory>

#include "runtime/cuda/context.h"
#include "runtime/operators/attention/attention.h"

namespace foretoken::cuda {

/// Serves the stream of one context. Not thread-safe.
class CudnnAttention {
 public:
  explicit CudnnAttention(const Context& gpu);
  ~CudnnAttention();
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;

  /// Whether forward() or backward() can run the call: bf16 without documents, HS a multiple of 8 and at most
  /// 128, and a shape that cuDNN supports.
  bool supports(const AttentionForward& op);
  bool supports(const AttentionBackward& op);

  /// Bytes of workspace that the call needs. Reads only shapes and dtypes, so the tensors' data may be null;
  /// a document_start with data counts as a call with documents. Throws a DefectError with the reason if
  /// supports() is false.
  std::size_t workspace(const AttentionForward& op);
  std::size_t workspace(const AttentionBackward& op);

  /// Tensors are aligned to 16 bytes, the workspace to 256 bytes.
  void forward(const AttentionForward& op, void* workspace);
  void backward(const AttentionBackward& op, void* workspace);

 private:
  class Plans;
  std::unique_ptr<Plans> plans_;
};

}  // namespace foretoken::cuda

#include "runtime/cuda/context.h"
#include "runtime/operators/attention.h"
#include "runtime/operators/flash_attention.h"
#if FORETOKEN_WITH_CUDNN
#include "runtime/operators/cudnn_attention.h"
#endif

namespace foretoken::cuda {

// cuDNN's kernels where they fit: they know no document borders. Ours elsewhere.

void attention_forward(Stream& stream, const AttentionForward& op) {
  Context& gpu = stream.cuda();
#if FORETOKEN_WITH_CUDNN
  if (CudnnAttention& cudnn = *gpu.cudnn_attention(); cudnn.supports(op))
    return cudnn.forward(op, gpu.workspace(cudnn.workspace(op)));
#endif
  flash_attention_forward(gpu.stream(), op);
}

void attention_backward(Stream& stream, const AttentionBackward& op) {
  Context& gpu = stream.cuda();
#if FORETOKEN_WITH_CUDNN
  if (CudnnAttention& cudnn = *gpu.cudnn_attention(); cudnn.supports(op))
    return cudnn.backward(op, gpu.workspace(cudnn.workspace(op)));
#endif
  const bool deterministic = gpu.deterministic();
  flash_attention_backward(
      gpu.stream(), op, gpu.workspace(flash_attention_backward_workspace(op, deterministic)), deterministic);
}

}  // namespace foretoken::cuda

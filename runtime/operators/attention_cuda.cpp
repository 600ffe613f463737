#include "runtime/cuda/context.h"
#include "runtime/operators/attention.h"
#include "runtime/operators/flash_attention.h"
#if FORETOKEN_WITH_CUDNN
#include "runtime/operators/cudnn_attention.h"
#endif

namespace foretoken::cuda {

// Either kind is taken where it is faster on an H100 (T 2048, 16 heads of 128, causal): cuDNN 9.14 takes
// 0.166 ms forward and 0.572 ms backward, ours 0.187 ms and 0.475 ms. cuDNN's know no document borders.

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
  const bool ours_is_faster = op.heads.dim == 64 || op.heads.dim == 128;
  if (CudnnAttention& cudnn = *gpu.cudnn_attention(); !ours_is_faster && cudnn.supports(op))
    return cudnn.backward(op, gpu.workspace(cudnn.workspace(op)));
#endif
  const bool deterministic = gpu.deterministic();
  flash_attention_backward(
      gpu.stream(), op, gpu.workspace(flash_attention_backward_workspace(op, deterministic)), deterministic);
}

}  // namespace foretoken::cuda

#include "runtime/operators/attention/attention.h"
#include "runtime/operators/attention/flash_attention.h"
#if FORETOKEN_WITH_CUDNN
#include "runtime/cuda/context.h"
#include "runtime/operators/attention/cudnn_attention.h"
#endif

namespace foretoken::cuda {

// Each pass uses the faster implementation. On an H100 (T 2048, 16 heads of 128, causal), cuDNN 9.14 takes
// 0.166 ms forward and 0.572 ms backward, this project's kernels take 0.187 ms and 0.475 ms. Calls with
// document starts always use this project's kernels.

void attention_forward(Stream& stream, const AttentionForward& op) {
#if FORETOKEN_WITH_CUDNN
  Context& gpu = stream.cuda();
  if (auto& cudnn = gpu.state<CudnnAttention>(); cudnn.supports(op))
    return cudnn.forward(op, gpu.workspace(cudnn.workspace(op)));
#endif
  flash_attention_forward(stream, op);
}

void attention_backward(Stream& stream, const AttentionBackward& op) {
#if FORETOKEN_WITH_CUDNN
  Context& gpu = stream.cuda();
  const bool ours_is_faster = op.heads.dim == 64 || op.heads.dim == 128;
  if (auto& cudnn = gpu.state<CudnnAttention>(); !ours_is_faster && cudnn.supports(op)) {
    cudnn.backward(op, gpu.workspace(cudnn.workspace(op)));
    if (op.rope_cos.defined()) cuda::rope(stream, rope_of(op));
    return;
  }
#endif
  flash_attention_backward(stream, op);
}

}  // namespace foretoken::cuda

#pragma once
// Flash attention through kernels of our own, for Hopper: attention.h's contract with qkv, out and their
// gradients all bf16 or all f32, lse f32. bf16 heads of 32, 64, 96 or 128 run on the tensor cores, every
// other even head size up to 256 through plain arithmetic. Repeated runs give identical bits, but for
// backward with bf16 heads of 64 or 128 where it is not asked to be deterministic.

#include <cstddef>

#include <cuda_runtime_api.h>

#include "runtime/operators/attention.h"

namespace foretoken::cuda {

/// Bytes of device memory that flash_attention_backward needs while it runs: B · NH · T floats, and where it
/// is not deterministic up to B · NH · T · HS more.
std::size_t flash_attention_backward_workspace(const AttentionBackward& op, bool deterministic);

void flash_attention_forward(cudaStream_t stream, const AttentionForward& op);
void flash_attention_backward(cudaStream_t stream, const AttentionBackward& op, void* workspace,
                              bool deterministic);

}  // namespace foretoken::cuda

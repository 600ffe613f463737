#pragma once
// Flash attention through kernels of our own, for Hopper: attention.h's contract with qkv, out and their
// gradients all bf16 or all f32, lse and rope's tables f32. bf16 heads of 32, 64, 96 or 128 run on the tensor
// cores, every other even head size up to 256 through plain arithmetic. Repeated runs give identical bits,
// but for backward with bf16 heads of 64 or 128 where it is not asked to be deterministic.

#include "runtime/operators/attention.h"

namespace foretoken::cuda {

void flash_attention_forward(Stream& stream, const AttentionForward& op);
/// Its workspace is B · NH · T floats, and where it need not be deterministic up to B · NH · T · HS more.
void flash_attention_backward(Stream& stream, const AttentionBackward& op);

}  // namespace foretoken::cuda

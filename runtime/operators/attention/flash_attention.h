#pragma once
// Flash attention with this project's kernels for Hopper: attention.h's contract with qkv, out and their
// gradients all bf16 or all f32, lse and rope's tables f32. bf16 heads of 32, 64, 96 or 128 run on the tensor
// cores; every other even head size up to 256 runs without them. Repeated runs return identical bits, except
// backward with bf16 heads of 64 or 128 if determinism is not requested.

#include "runtime/operators/attention/attention.h"

namespace foretoken::cuda {

void flash_attention_forward(Stream& stream, const AttentionForward& op);
/// Its workspace is B · NH · T floats. bf16 heads of 64 or 128 need B · NH · ⌈T/128⌉·128 · HS floats more if
/// determinism is not requested.
void flash_attention_backward(Stream& stream, const AttentionBackward& op);

}  // namespace foretoken::cuda

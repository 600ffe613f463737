#pragma once
// Cached attention in bf16 on the tensor cores. Made for few rows, where what counts is how long the way from
// the first key to the result is, and for many sequences, where all that counts is that keys pass once.

#include "runtime/operators/cached_attention.h"

namespace foretoken::cuda::cached_attention_bf16 {

/// Whether the kernel can work on these: bf16 at multiples of 16 bytes, heads of a multiple of 16.
bool fits(const CachedAttention& op);

void attend(Stream& stream, const CachedAttention& op);

}  // namespace foretoken::cuda::cached_attention_bf16

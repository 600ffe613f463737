#pragma once
// Cached attention in bf16 on the tensor cores. It is designed for two cases: few rows, where the latency
// from the first key to the result limits, and many sequences, where the kernel reads each key once.

#include "runtime/operators/attention/cached_attention.h"

namespace foretoken::cuda::cached_attention_bf16 {

/// Whether the kernel supports the operands: bf16, 16-byte aligned, head dimension a multiple of 16.
bool fits(const CachedAttention& op);

void attend(Stream& stream, const CachedAttention& op);

}  // namespace foretoken::cuda::cached_attention_bf16

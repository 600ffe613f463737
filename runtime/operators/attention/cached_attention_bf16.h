#pragma once
// Cached attention in bf16 on the tensor cores. It is designed for two cases: few rows, which are bound by
// the latency of dependent key tiles, and many sequences, which are bound by the bandwidth for keys and
// values.

#include "runtime/operators/attention/cached_attention.h"

namespace foretoken::cuda::cached_attention_bf16 {

/// Whether the kernel supports the operands: bf16, 16-byte aligned, head dimension a multiple of 16.
bool fits(const CachedAttention& op);

void attend(Stream& stream, const CachedAttention& op);

}  // namespace foretoken::cuda::cached_attention_bf16

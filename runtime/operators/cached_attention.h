#pragma once
// Attention of new tokens over keys and values that are kept from earlier ones, for generating text. New
// tokens come as N rows, any number from each of S sequences; a sequence's cache has P places, one a
// position:
//
//   cells[n] = s · P + p: row n is sequence s at position p
//   out[n] = Σᵤ softmaxᵤ( (q_n · k_u) / √HS ) · v_u,  u = 0..p of sequence s
//
// Rows are stored before they are attended to, so new rows of one sequence see each other causally, and to
// forget what was stored past a position nothing needs to be done: later rows overwrite it before they see
// it. Query head h reads key/value head h / (NH/NKV). What a row gives has the same bits whatever rows come
// with it.

#include "runtime/operators/attention.h"
#include "runtime/operators/rms_norm.h"

namespace foretoken {

/// cache[cells[n]] = x[n], a column block of a matrix. No cell is given twice.
struct CacheStore {
  Columns x;     // [N, W]
  Tensor cells;  // [N] i32
  Tensor cache;  // [S, P, W]
};
void cache_store(Stream& stream, const CacheStore& op);

struct CachedAttention {
  AttentionHeads heads;
  Tensor qkv;    // [N, (NH + 2·NKV)·HS]: query heads first, the rest is not read
  Tensor cells;  // [N] i32
  Tensor cache;  // [S, P, 2·NKV·HS]: key heads, value heads
  Tensor out;    // [N, NH·HS] =
};
void cached_attention(Stream& stream, const CachedAttention& op);

namespace cpu {
void cache_store(Stream& stream, const CacheStore& op);
void cached_attention(Stream& stream, const CachedAttention& op);
}  // namespace cpu
namespace cuda {
void cache_store(Stream& stream, const CacheStore& op);
void cached_attention(Stream& stream, const CachedAttention& op);
}  // namespace cuda

}  // namespace foretoken

#pragma once
// Attention of new tokens over the key/value cache, for text generation. The N rows are new tokens, any
// number from each of S sequences. The cache of a sequence has P slots, one for each position:
//
//   slots[n] = s · P + p: row n is sequence s at position p
//   out[n] = Σᵤ softmaxᵤ( (q_n · k_u) / √HS ) · v_u,  u = 0..p of sequence s
//
// cache_store runs before cached_attention, so new rows of one sequence attend to each other causally. Slots
// after a rejected position need no reset: later rows overwrite them before any row reads them. Query head h
// reads key/value head h / (NH/NKV). The result of a row has the same bits for every set of other rows in the
// call.
//
// In a tree of drafts (Miao et al., "SpecInfer", arXiv 2305.09781), rows of one sequence share positions but
// not slots. Each row then lists the slots of its last A positions in `paths`:
//
//   out[n] = Σᵤ softmaxᵤ( (q_n · k_w) / √HS ) · v_w,  u = 0..p,  w = paths[n, p − u] where p − u < A, else u
//
// with p = positions[n] and slots[n] = s · P + paths[n, 0]. The sum runs in position order, so a branch has
// the same bits as the same tokens without a tree. A tensor marked "=" is overwritten; the others are read
// unless their comment says more.

#include "runtime/operators/attention/attention.h"
#include "runtime/operators/rowwise/rms_norm.h"

namespace foretoken {

/// Copies new rows into the cache: cache[slots[n]] = x[n]. Rows with the same slot must have the same values.
struct CacheStore {
  Columns x;     // [N, W], the keys and values, which are a column block of qkv
  Tensor slots;  // [N] i32
  Tensor cache;  // [S, P, W], updated
};
void cache_store(Stream& stream, const CacheStore& op);

/// Moves the accepted branch of a tree to the slots of its positions: cache[to[m]] = cache[from[m]] for m =
/// 0, 1, … in order. from[m] must not be in to[0..m − 1].
struct CacheMove {
  Tensor from;   // [M] i32
  Tensor to;     // [M] i32
  Tensor cache;  // [S, P, W], updated
};
void cache_move(Stream& stream, const CacheMove& op);

struct CachedAttention {
  AttentionHeads heads;
  Tensor qkv;    // [N, (NH + 2·NKV)·HS]: only the query heads, which are first, are read
  Tensor slots;  // [N] i32; a GPU reads it while the previous kernels still run, so they must not write it
  Tensor positions;  // [N] i32; read only if paths is defined; on a GPU, the rule for slots applies
  Tensor paths;      // [N, A] i32, optional; without it the key of position u is in slot u
  Tensor cache;      // [S, P, 2·NKV·HS]: key heads, value heads
  Tensor out;        // [N, NH·HS] =
};
void cached_attention(Stream& stream, const CachedAttention& op);

namespace cpu {
void cache_store(Stream& stream, const CacheStore& op);
void cache_move(Stream& stream, const CacheMove& op);
void cached_attention(Stream& stream, const CachedAttention& op);
}  // namespace cpu
namespace cuda {
void cache_store(Stream& stream, const CacheStore& op);
void cache_move(Stream& stream, const CacheMove& op);
void cached_attention(Stream& stream, const CachedAttention& op);
}  // namespace cuda

}  // namespace foretoken

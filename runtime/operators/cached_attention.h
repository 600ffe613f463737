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
//
// Where a text may go on in several ways (a tree of drafts; Miao et al., "SpecInfer", arXiv 2305.09781), rows
// of one sequence share positions but not places. Then a row says where the keys of its last A positions are:
//
//   out[n] = Σᵤ softmaxᵤ( (q_n · k_w) / √HS ) · v_w,  u = 0..p,  w = paths[n, p − u] where p − u < A, else u
//
// with p = positions[n] and cells[n] = s · P + paths[n, 0]. The sum goes by positions, so that a branch gets
// the bits that it would get as the text.

#include "runtime/operators/attention.h"
#include "runtime/operators/rms_norm.h"

namespace foretoken {

/// cache[cells[n]] = x[n], a column block of a matrix. No cell is given twice, but for the same values.
struct CacheStore {
  Columns x;     // [N, W]
  Tensor cells;  // [N] i32
  Tensor cache;  // [S, P, W]
};
void cache_store(Stream& stream, const CacheStore& op);

/// cache[to[m]] = cache[from[m]], m = 0, 1, … one after another: how a branch becomes the text. Nothing moves
/// twice: from[m] is none of to[0..m − 1].
struct CacheMove {
  Tensor from;   // [M] i32
  Tensor to;     // [M] i32
  Tensor cache;  // [S, P, W]
};
void cache_move(Stream& stream, const CacheMove& op);

struct CachedAttention {
  AttentionHeads heads;
  Tensor qkv;        // [N, (NH + 2·NKV)·HS]: query heads first, the rest is not read
  Tensor cells;      // [N] i32; on a GPU read while the kernels before still run: none of them writes it
  Tensor positions;  // [N] i32; read with paths alone, as early as cells
  Tensor paths;      // [N, A] i32; undefined: every key is in its position's place
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

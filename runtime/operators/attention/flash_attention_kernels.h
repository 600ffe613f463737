#pragma once
// Declarations shared by the dispatch of flash attention and its two families of kernels.

#include <algorithm>
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include "runtime/cuda/shared_memory.h"

namespace foretoken::cuda::flash {

/// The kernels' arguments for one attention call. The functions return offsets in elements.
struct Problem {
  int rows = 0;      // B
  int time = 0;      // T
  int heads = 0;     // NH
  int kv_heads = 0;  // NKV
  int dim = 0;       // HS
  float scale = 0;   // 1 / √HS
  const std::int32_t* document_start =
      nullptr;                       // [B, S ≥ T], non-decreasing along a row; null: one document per row
  std::int64_t document_stride = 0;  // S
  // [T, HS/2], read by the tensor-core backward only; null if dQ and dK are not rotated back.
  const float *rope_cos = nullptr, *rope_sin = nullptr;

  __host__ __device__ int padded_time() const { return (time + 127) / 128 * 128; }
  __host__ __device__ int group() const { return heads / kv_heads; }
  __host__ __device__ std::int64_t qkv_width() const { return std::int64_t(heads + 2 * kv_heads) * dim; }
  __host__ __device__ std::int64_t out_width() const { return std::int64_t(heads) * dim; }
  __host__ __device__ std::int64_t query(int row, int head) const {
    return row * time * qkv_width() + std::int64_t(head) * dim;
  }
  __host__ __device__ std::int64_t key(int row, int kv_head) const { return query(row, heads + kv_head); }
  __host__ __device__ std::int64_t value(int row, int kv_head) const {
    return query(row, heads + kv_heads + kv_head);
  }
  __host__ __device__ std::int64_t out(int row, int head) const {
    return row * time * out_width() + std::int64_t(head) * dim;
  }
  __host__ __device__ std::int64_t statistic(int row, int head) const {  // in lse and delta, [B, NH, T]
    return (std::int64_t(row) * heads + head) * time;
  }
  /// The first key that query t attends to. Queries past the end return the value of the last query.
  __device__ int first_key(int row, int t) const {
    if (document_start == nullptr) return 0;
    const int start = document_start[row * document_stride + (t < time ? t : time - 1)];
    return start > 0 ? start : 0;
  }
};

/// The share of one block: a tile of one head of one batch row. Tiles are ranked by their work; rank 0 has
/// the most.
struct Work {
  int rank, head, row;
};

/// The order in which blocks start. Within a set of `set_heads` heads, whose keys and values fit in L2, tiles
/// with more work start first. The shortest tiles, `late` of each head, start after all sets and balance the
/// load at the end.
struct Schedule {
  int tiles, heads, rows, set_heads, late;

  Schedule(const Problem& p, int tile_rows, int scheduled_heads, std::size_t element)
      : tiles((p.time + tile_rows - 1) / tile_rows), heads(scheduled_heads), rows(p.rows) {
    constexpr std::int64_t l2_share = 16 << 20;
    const std::int64_t head_bytes = 2 * std::int64_t(p.time) * p.dim * static_cast<std::int64_t>(element);
    set_heads =
        static_cast<int>(std::clamp<std::int64_t>(l2_share / head_bytes, 1, std::int64_t(heads) * rows));
    late = tiles / 4;
  }
  unsigned blocks() const { return static_cast<unsigned>(std::int64_t(tiles) * heads * rows); }

  __device__ Work work(unsigned block) const {
    const unsigned pairs = unsigned(heads) * rows, early = tiles - late;
    const bool is_late = block >= early * pairs;
    const unsigned set = block / (early * set_heads);
    const unsigned first = is_late ? 0 : set * set_heads;
    const unsigned within = block - first * early, left = pairs - first;
    const unsigned size = is_late ? pairs : left < unsigned(set_heads) ? left : set_heads;
    const unsigned pair = first + within % size;
    return {int(within / size), int(pair % heads), int(pair / heads)};
  }
};

/// The tensors of one backward call. Kernels that read them by ordinary loads take the pointers as separate
/// __restrict__ arguments: from a member, the compiler does not load through the read-only cache.
template <class T>
struct BackwardTensors {
  const T *dout, *qkv;       // [B, T, NH·HS] and [B, T, (NH + 2·NKV)·HS]
  const float *lse, *delta;  // [B, NH, T]
  T* dqkv;                   // [B, T, (NH + 2·NKV)·HS], overwritten
};

/// delta[b, h, t] = Σᵢ dout[b, t, h, i] · out[b, t, h, i]. Both backward kernels read it.
template <class T>
void output_dot(cudaStream_t stream, const Problem& p, const T* dout, const T* out, float* delta);

/// f32 arithmetic without tensor cores: any even HS up to 256.
template <class T>
void forward_generic(cudaStream_t stream, const Problem& p, const T* qkv, T* out, float* lse);
template <class T>
void backward_generic(cudaStream_t stream, const Problem& p, const BackwardTensors<T>& tensors);

/// Tensor-core kernels: HS 32, 64, 96 or 128; pointers aligned to 16 bytes, the results of forward to 4.
/// `sums` may be null. If it is not, it has B · NH · padded_time · HS floats, and dQ is summed there in no
/// fixed order.
void forward_bf16(cudaStream_t stream, const Problem& p, const __nv_bfloat16* qkv, __nv_bfloat16* out,
                  float* lse);
void backward_bf16(cudaStream_t stream, const Problem& p, const BackwardTensors<__nv_bfloat16>& tensors,
                   float* sums);

}  // namespace foretoken::cuda::flash

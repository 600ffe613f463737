#include <algorithm>
#include <cmath>

#include "runtime/cuda/context.h"
#include "runtime/cuda/overlap.cuh"
#include "runtime/operators/attention/cached_attention.h"
#include "runtime/operators/attention/cached_attention_bf16.h"

namespace foretoken::cuda {

namespace {

constexpr int store_threads = 128;

/// cache[slots[n]] = x[n]. A block owns a row n; a thread copies packs of N elements.
template <class T, int N>
__global__ void store_rows(const T* x, std::int64_t stride, const std::int32_t* slots, T* cache,
                           std::int64_t width) {
  launch_dependents();
  wait_for_earlier_work();
  const T* from = x + static_cast<std::int64_t>(blockIdx.x) * stride;
  T* to = cache + slots[blockIdx.x] * width;
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * N; i < width; i += store_threads * N)
    store<N>(to + i, load<N>(from + i));
}

/// cache[to[m]] = cache[from[m]] in order of m. A thread owns N columns, so the moves of a column run in
/// order. No move reads a row that an earlier move wrote, so a thread reads `batch` rows before it writes
/// them, which hides latency.
template <class T, int N>
__global__ void move_rows(std::int64_t moves, const std::int32_t* __restrict__ from,
                          const std::int32_t* __restrict__ to, T* cache, std::int64_t width) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * store_threads + threadIdx.x) * N;
  if (i >= width) return;
  constexpr int batch = 8;
  for (std::int64_t first = 0; first < moves; first += batch) {
    Pack<T, N> rows[batch];
#pragma unroll
    for (int j = 0; j < batch; ++j)
      if (first + j < moves) rows[j] = load<N>(cache + from[first + j] * width + i);
#pragma unroll
    for (int j = 0; j < batch; ++j)
      if (first + j < moves) store<N>(cache + to[first + j] * width + i, rows[j]);
  }
}

constexpr int warps = 8, attend_threads = 32 * warps;
constexpr int ahead = 4;        // keys that a warp processes at once
constexpr int part_keys = 128;  // keys per block; fixed, because it determines a sum's order
constexpr int join_threads = 128;
constexpr std::size_t most_partial_bytes = std::size_t{64} << 20;

struct Problem {
  std::int64_t sequence_slots, width, qkv_width;
  int heads, group, dim, value_offset;  // value_offset: from a head's key to its value
  int parts;  // parts of part_keys keys that cover all P positions; a row uses the first of them
  int reach;  // A, the length of a row's path; 0 without paths
  float scale;

  __device__ std::int64_t out(int row, int head) const {
    return (static_cast<std::int64_t>(row) * heads + head) * dim;
  }
  /// Address of a part's result in `partial`: dim weighted sums of values, the largest score, the sum of
  /// weights.
  __device__ float* part(float* partial, int row, int head, int i) const {
    return partial + ((static_cast<std::int64_t>(row) * heads + head) * parts + i) * (dim + 2);
  }
};

struct Rows {
  const std::int32_t* slots;
  const std::int32_t* positions = nullptr;  // only if rows have paths
  const std::int32_t* paths = nullptr;

  __device__ std::int64_t position(const Problem& p, int row) const {
    return p.reach > 0 ? positions[row] : slots[row] % p.sequence_slots;
  }
  /// The slot that holds the key of position u for a row at position `own`.
  __device__ std::int64_t key_slot(const Problem& p, int row, std::int64_t own, std::int64_t u) const {
    return own - u < p.reach ? paths[row * p.reach + (own - u)] : u;
  }
};

/// Attention of one row, for dtypes and head sizes that the tensor-core kernel does not support. A block
/// computes one query head of one row over one part of its keys (Dao et al., "Flash-Decoding for long-context
/// inference", 2023). Each warp runs an online softmax over every eighth group of `ahead` keys; a lane owns
/// the pairs of head elements lane + 32·e, e < E. The warps' sums, largest scores and sums of weights meet in
/// shared memory. If the row has one part, the block writes the result; otherwise it writes to `partial`, and
/// join_parts() merges the parts. The order of a row's sums depends only on its position.
template <class T, int E>
__global__ void __launch_bounds__(attend_threads)
    attend(Problem p, const T* __restrict__ qkv, Rows rows, const T* __restrict__ cache, T* __restrict__ out,
           float* __restrict__ partial) {
  __shared__ float sums[warps][64 * E];
  __shared__ float tops[warps], weights[warps];
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y),
            index = static_cast<int>(blockIdx.z);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t slot = rows.slots[row];
  const std::int64_t count = rows.position(p, row) + 1;
  const std::int64_t begin = static_cast<std::int64_t>(index) * part_keys,
                     end = min(count, begin + part_keys);
  if (begin >= count) return;
  const T* keys = cache + slot / p.sequence_slots * p.sequence_slots * p.width + head / p.group * p.dim;
  const T* query = qkv + row * p.qkv_width + head * p.dim;

  float2 q[E], sum[E];
#pragma unroll
  for (int e = 0; e < E; ++e) {
    const int i = 2 * (lane + 32 * e);
    q[e] = sum[e] = {0, 0};
    if (i >= p.dim) continue;
    const Pack<T, 2> pair = load<2>(query + i);
    q[e] = {to_float(pair.at[0]) * p.scale, to_float(pair.at[1]) * p.scale};
  }
  float top = -INFINITY, total = 0;
  for (std::int64_t first = begin + warp * ahead; first < end; first += warps * ahead) {
    float score[ahead];
    const T* key_of[ahead];
#pragma unroll
    for (int j = 0; j < ahead; ++j) {
      score[j] = 0;
      if (first + j < end) {
        key_of[j] = keys + rows.key_slot(p, row, count - 1, first + j) * p.width;
#pragma unroll
        for (int e = 0; e < E; ++e) {
          const int i = 2 * (lane + 32 * e);
          if (i >= p.dim) continue;
          const Pack<T, 2> key = load<2>(key_of[j] + i);
          score[j] += q[e].x * to_float(key.at[0]) + q[e].y * to_float(key.at[1]);
        }
      }
    }
    float new_top = top;
#pragma unroll
    for (int j = 0; j < ahead; ++j) {
      score[j] = first + j < end ? warp_sum(score[j]) : -INFINITY;
      new_top = fmaxf(new_top, score[j]);
    }
    const float rescale = expf(top - new_top);
    top = new_top;
    total *= rescale;
#pragma unroll
    for (int e = 0; e < E; ++e) sum[e] = {sum[e].x * rescale, sum[e].y * rescale};
#pragma unroll
    for (int j = 0; j < ahead; ++j) {
      if (first + j >= end) continue;
      const float weight = expf(score[j] - top);
      total += weight;
#pragma unroll
      for (int e = 0; e < E; ++e) {
        const int i = 2 * (lane + 32 * e);
        if (i >= p.dim) continue;
        const Pack<T, 2> value = load<2>(key_of[j] + p.value_offset + i);
        sum[e].x += weight * to_float(value.at[0]);
        sum[e].y += weight * to_float(value.at[1]);
      }
    }
  }

#pragma unroll
  for (int e = 0; e < E; ++e) {
    sums[warp][2 * (lane + 32 * e)] = sum[e].x;
    sums[warp][2 * (lane + 32 * e) + 1] = sum[e].y;
  }
  if (lane == 0) {
    tops[warp] = top;
    weights[warp] = total;
  }
  __syncthreads();
  float block_top = -INFINITY, block_total = 0;
#pragma unroll
  for (int w = 0; w < warps; ++w) block_top = fmaxf(block_top, tops[w]);
  float factor[warps];
#pragma unroll
  for (int w = 0; w < warps; ++w) {
    factor[w] = weights[w] > 0 ? expf(tops[w] - block_top) : 0;  // a warp may have no key
    block_total += factor[w] * weights[w];
  }
  const bool only = count <= part_keys;
  float* part = p.part(partial, row, head, index);
  for (int i = static_cast<int>(threadIdx.x); i < p.dim; i += attend_threads) {
    float result = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w) result += factor[w] * sums[w][i];
    if (only)
      out[p.out(row, head) + i] = from_float<T>(result / block_total);
    else
      part[i] = result;
  }
  if (!only && threadIdx.x == 0) {
    part[p.dim] = block_top;
    part[p.dim + 1] = block_total;
  }
}

/// Merges the parts of one head of one row, which a block owns: out = Σ sums / Σ weights, each part rescaled
/// to the largest score of all. A thread owns elements of the head.
template <class T>
__global__ void join_parts(Problem p, Rows rows, float* __restrict__ partial, T* __restrict__ out) {
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int parts = static_cast<int>(rows.position(p, row)) / part_keys + 1;
  if (parts == 1) return;
  float top = -INFINITY;
  for (int i = 0; i < parts; ++i) top = fmaxf(top, p.part(partial, row, head, i)[p.dim]);
  for (int e = static_cast<int>(threadIdx.x); e < p.dim; e += static_cast<int>(blockDim.x)) {
    float result = 0, total = 0;
    for (int i = 0; i < parts; ++i) {
      const float* part = p.part(partial, row, head, i);
      const float factor = expf(part[p.dim] - top);
      result += factor * part[e];
      total += factor * part[p.dim + 1];
    }
    out[p.out(row, head) + e] = from_float<T>(result / total);
  }
}

template <class F>
void with_pairs(int dim, F f) {
  if (dim <= 64) return f.template operator()<1>();
  if (dim <= 128) return f.template operator()<2>();
  return f.template operator()<4>();
}

}  // namespace

void cache_store(Stream& stream, const CacheStore& op) {
  const std::int64_t n = op.slots.elements(), width = op.cache.shape[2];
  if (n == 0) return;
  const std::int64_t stride = op.x.matrix.elements() / n;
  with_activation("cache_store", op.cache.dtype, [&]<class T>() {
    const T* x = static_cast<const T*>(op.x.matrix.data) + op.x.first;
    T* cache = static_cast<T*>(op.cache.data);
    const auto* slots = op.slots.as<std::int32_t>();
    constexpr int pack = lane_elements<T>;
    const bool packed = packs<pack>(width, x, cache) && stride % pack == 0;
    launch_overlapped(stream.cuda().stream(), packed ? store_rows<T, pack> : store_rows<T, 1>,
                      {.grid = dim3(static_cast<unsigned>(n)), .threads = store_threads}, x, stride, slots,
                      cache, width);
  });
}

void cache_move(Stream& stream, const CacheMove& op) {
  const std::int64_t moves = op.from.elements(), width = op.cache.shape[2];
  if (moves == 0) return;
  with_activation("cache_move", op.cache.dtype, [&]<class T>() {
    T* cache = static_cast<T*>(op.cache.data);
    const auto *from = op.from.as<std::int32_t>(), *to = op.to.as<std::int32_t>();
    constexpr int pack = lane_elements<T>;
    cudaStream_t on = stream.cuda().stream();
    if (packs<pack>(width, cache))
      move_rows<T, pack>
          <<<blocks_for(width, store_threads * pack), store_threads, 0, on>>>(moves, from, to, cache, width);
    else
      move_rows<T, 1>
          <<<blocks_for(width, store_threads), store_threads, 0, on>>>(moves, from, to, cache, width);
  });
  check_launch("cache_move");
}

void cached_attention(Stream& stream, const CachedAttention& op) {
  if (cached_attention_bf16::fits(op)) return cached_attention_bf16::attend(stream, op);
  const AttentionHeads& h = op.heads;
  const std::int64_t n = op.slots.elements();
  if (n == 0) return;
  const std::int64_t parts = blocks_for(op.cache.shape[1], part_keys);
  const Problem p{.sequence_slots = op.cache.shape[1],
                  .width = op.cache.shape[2],
                  .qkv_width = (h.query + 2 * h.key_value) * h.dim,
                  .heads = static_cast<int>(h.query),
                  .group = static_cast<int>(h.query / h.key_value),
                  .dim = static_cast<int>(h.dim),
                  .value_offset = static_cast<int>(h.key_value * h.dim),
                  .parts = static_cast<int>(parts),
                  .reach = op.paths.defined() ? static_cast<int>(op.paths.shape[1]) : 0,
                  .scale = 1 / std::sqrt(static_cast<float>(h.dim))};
  // `partial` grows with the number of rows, so the rows of a long prompt run in groups that reuse it.
  const auto row_bytes = static_cast<std::size_t>(h.query * parts * (h.dim + 2)) * sizeof(float);
  const std::int64_t rows_per_launch =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(most_partial_bytes / row_bytes), 1, n);
  auto* partial =
      static_cast<float*>(stream.cuda().workspace(static_cast<std::size_t>(rows_per_launch) * row_bytes));
  with_activation("cached_attention", op.qkv.dtype, [&]<class T>() {
    for (std::int64_t row = 0; row < n; row += rows_per_launch) {
      const dim3 blocks(static_cast<unsigned>(std::min(rows_per_launch, n - row)),
                        static_cast<unsigned>(h.query));
      const T* qkv = static_cast<const T*>(op.qkv.data) + row * p.qkv_width;
      Rows rows{.slots = op.slots.as<std::int32_t>() + row};
      if (p.reach > 0) {
        rows.positions = op.positions.as<std::int32_t>() + row;
        rows.paths = op.paths.as<std::int32_t>() + row * p.reach;
      }
      T* out = static_cast<T*>(op.out.data) + row * h.query * h.dim;
      with_pairs(p.dim, [&]<int E>() {
        attend<T, E>
            <<<dim3(blocks.x, blocks.y, static_cast<unsigned>(parts)), attend_threads, 0,
               stream.cuda().stream()>>>(p, qkv, rows, static_cast<const T*>(op.cache.data), out, partial);
      });
      if (parts > 1)
        join_parts<T><<<blocks, join_threads, 0, stream.cuda().stream()>>>(p, rows, partial, out);
    }
  });
  check_launch("cached_attention");
}

}  // namespace foretoken::cuda

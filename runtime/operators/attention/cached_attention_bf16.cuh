#pragma once
// Building blocks of the cached attention kernel in bf16: the division into windows, runs and tiles, the
// copies to shared memory, and the online softmax.
//
// A query is one query head of one row. A window is a set of rows that a block processes; a run is a set of
// consecutive rows of a window that belong to one sequence. A block processes up to 16 queries of a run at a
// time, which are the rows of a tensor-core product, with tiles of 64 keys. Each of its four warps scores 16
// keys of a tile.

#include <cmath>
#include <cstdint>

#include <cuda_bf16.h>

#include "runtime/cuda/device.cuh"
#include "runtime/cuda/hopper.cuh"
#include "runtime/cuda/warp_product.cuh"

namespace foretoken::cuda::cached_attention_bf16 {

// A sequence's keys are divided into parts: tile i belongs to part i % parts. Both constants are fixed,
// because they determine the order of a sum.
constexpr int parts = 8;
constexpr int tile_keys = 64;
constexpr int warps = 4, block_threads = 32 * warps;
constexpr int most_queries = 16;                  // rows of a tensor-core product
constexpr int least_stages = 2, most_stages = 3;  // tiles in shared memory that are being copied or read
constexpr int weight_pitch = tile_keys + 8;       // bf16 elements per row of weights; avoids bank conflicts
constexpr int prefetched = 3;                     // tiles that a block prefetches into L2
constexpr int few_branches = 4;  // largest window for rows with paths if there are fewer windows than SMs

struct Tensors {
  const __nv_bfloat16* qkv;                       // [N, (NH + 2·NKV)·HS]
  const std::int32_t *slots, *positions, *paths;  // [N], [N], [N, A]; without paths, the last two are null
  const __nv_bfloat16* cache;                     // [S, P, 2·NKV·HS]
  __nv_bfloat16* out;                             // [N, NH·HS]
};

struct CacheShape {
  int sequence_slots, width;  // P, 2·NKV·HS
};

struct Heads {
  int query, group, per_window;  // NH, NH/NKV, and the query heads of a group that a window holds
  int dim, value_offset;         // HS, and the elements from a head's key to its value
  float scale;                   // log₂e / √HS, because weights are computed as powers of two
};

struct Problem {
  Tensors tensors;
  int rows, window;  // N, and the largest number of rows in a window
  int reach;         // A, the length of a row's path; 0 without paths
  CacheShape cache;
  int qkv_width;
  Heads heads;
  int stages = least_stages;  // tiles in shared memory, if one block processes a window

  /// Address of slot 0 of a sequence: the keys of the key/value head that query head `head` reads.
  __device__ __forceinline__ const __nv_bfloat16* keys(int sequence, int head) const {
    return tensors.cache + static_cast<std::int64_t>(sequence) * cache.sequence_slots * cache.width +
           head / heads.group * heads.dim;
  }
};

/// Shared memory of a block. Rows of matrices are padded by 16 bytes, so that the eight rows of a load are in
/// different banks.
struct Layout {
  __nv_bfloat16* tiles;    // [stages, 2, 64, HS + 8]: keys and values of a tile
  __nv_bfloat16* queries;  // [16, HS + 8]; later the weights [16, 64 + 8]
  float* tops;             // [warps, 16], each warp's largest score of a query in the current tile
  float* totals;           // [warps, 16], each warp's sum of weights of a query
  float* joined;           // [2, 16], the block's largest score and sum of weights of a query

  __host__ __device__ static int pitch(int dim) { return dim + 8; }
  __host__ __device__ static int tile_elements(int dim) { return 2 * tile_keys * pitch(dim); }
  /// Queries and weights share this memory: the weights are stored after the queries are in registers.
  __host__ __device__ static int query_elements(int dim) {
    return most_queries * (dim > tile_keys ? pitch(dim) : weight_pitch);
  }
  static std::size_t bytes(int dim, int stages) {
    return static_cast<std::size_t>(stages * tile_elements(dim) + query_elements(dim)) *
               sizeof(__nv_bfloat16) +
           (2 * warps + 2) * most_queries * sizeof(float);
  }
  __device__ Layout(unsigned char* memory, int dim, int stages)
      : tiles(reinterpret_cast<__nv_bfloat16*>(memory)),
        queries(tiles + stages * tile_elements(dim)),
        tops(reinterpret_cast<float*>(queries + query_elements(dim))),
        totals(tops + warps * most_queries),
        joined(totals + warps * most_queries) {}

  /// The sum of all warps' totals of a query.
  __device__ __forceinline__ float total_of(int query) const {
    float all = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w) all += totals[w * most_queries + query];
    return all;
  }
};

__device__ __forceinline__ void prefetch(const void* from, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

/// 2^(x − top), or 0 if top is −∞ (no key has been processed).
__device__ __forceinline__ float weight_of(float x, float top) {
  return exp2_fast(x - (top == -INFINITY ? 0.0F : top));
}

/// Merges the softmax sums over two sets of keys. Each sum is relative to the largest score of its set, so
/// both are rescaled to the larger of the two.
struct Join {
  float top, before, after;
  __device__ __forceinline__ Join(float top_before, float top_after)
      : top(fmaxf(top_before, top_after)),
        before(weight_of(top_before, top)),
        after(weight_of(top_after, top)) {}
  __device__ __forceinline__ float operator()(float sum, float more) const {
    return __fmaf_rn(more, after, __fmul_rn(sum, before));
  }
};

/// A thread's position in the products of its warp (warp_product.cuh): it holds rows `group` and group + 8 of
/// the 16 queries, and columns 2 · pair + {0, 1} of every 8.
struct Lane {
  int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  int group = lane / 4, pair = lane % 4;
};

/// Rows [first, first + count), and the query heads from `head` on, that a block processes.
struct Window {
  int first, count, head;
  int sequence, position;  // in lane i: of row first + i
};

/// Rows [begin, begin + length) of a window, which belong to one sequence.
template <bool Branches>
struct Run {
  int begin, length, sequence;
  int last;            // the largest position of a row
  int tiles, queries;  // tiles of keys up to `last`; queries of the run, at most most_queries
  int common;          // before this tile, all rows of the run read a key from the same slot
  int parts_used;      // parts that have a tile
  // For queries `group` and group + 8: the row in the run, and the position of the last key that it attends
  // to (−1 for queries past the run's end).
  int row[2], limit[2];

  __device__ __forceinline__ Run(const Problem& p, const Window& window, const Lane& at, int begin_)
      : begin(begin_) {
    sequence = __shfl_sync(full_warp, window.sequence, begin);
    const unsigned alike =
        __ballot_sync(full_warp, at.lane < window.count && window.sequence == sequence) >> begin;
    length = __ffs(static_cast<int>(~alike)) - 1;
    const bool inside = at.lane >= begin && at.lane < begin + length;
    last = __reduce_max_sync(full_warp, inside ? window.position : 0);
    const int lowest = __reduce_min_sync(full_warp, inside ? window.position : last);
    tiles = last / tile_keys + 1;
    queries = length * p.heads.per_window;
    common = Branches ? max(lowest + 1 - p.reach, 0) / tile_keys : tiles;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = at.group + 8 * half;
      row[half] = min(query / p.heads.per_window, length - 1);
      const int position = __shfl_sync(full_warp, window.position, begin + row[half]);
      limit[half] = query < queries ? position : -1;
    }
    parts_used = min(parts, tiles);
  }
};

/// One step of a block: a tile of keys for all rows of a run. If the rows have the tile's keys in different
/// slots, each row is a step of its own.
struct Step {
  int part, tile, row;  // row −1: all rows
};

/// The order of a block's steps: the tiles of a part one after another, then the tiles of the block's next
/// part. A step with part ≥ run.parts_used is past the end.
template <int blocks, bool Branches>
struct Steps {
  const Run<Branches>& run;

  __device__ __forceinline__ Step at(int part, int tile) const {
    return Step{part, tile, Branches && tile >= run.common ? 0 : -1};
  }
  __device__ __forceinline__ Step after(const Step& step) const {
    if (Branches && step.row >= 0 && step.row + 1 < run.length)
      return Step{step.part, step.tile, step.row + 1};
    if (step.tile + parts < run.tiles) return at(step.part, step.tile + parts);
    return at(step.part + blocks, step.part + blocks);
  }
};

/// Copies queries, and tiles of keys and values, to shared memory asynchronously. Eight threads copy a row,
/// 64 elements (a span) at a time.
template <int Spans, bool Branches>
struct Loader {
  const Problem& p;
  const Layout& shared;
  const Window& window;
  const Run<Branches>& run;
  const Lane& at;
  int pitch;

  __device__ __forceinline__ void copy_row(__nv_bfloat16* to, const __nv_bfloat16* from, int row,
                                           bool filled) const {
#pragma unroll
    for (int span = 0; span < Spans; ++span) {
      const int i = 64 * span + at.thread % 8 * 8;
      if (i < p.heads.dim)
        copy_16_async(shared_address(to + row * pitch + i), filled ? from + i : p.tensors.cache, filled);
    }
  }
  __device__ __forceinline__ void copy_queries() const {
    const int query = at.thread / 8;
    copy_row(
        shared.queries,
        p.tensors.qkv +
            static_cast<std::int64_t>(window.first + run.begin + query / p.heads.per_window) * p.qkv_width +
            (window.head + query % p.heads.per_window) * p.heads.dim,
        query, query < run.queries);
  }
  /// Copies the step's tile, or nothing if the step is past the end. Keys that no row attends to become
  /// zeros.
  __device__ __forceinline__ void copy_tile(const Step& step, int stage) const {
    if (step.part >= run.parts_used) return;
    const int row = run.begin + max(step.row, 0);
    const int end = !Branches || step.row < 0 ? run.last : __shfl_sync(full_warp, window.position, row);
    __nv_bfloat16* to = shared.tiles + stage * Layout::tile_elements(p.heads.dim);
#pragma unroll
    for (int i = 0; i < tile_keys; i += block_threads / 8) {
      const int in_tile = i + at.thread / 8, key = step.tile * tile_keys + in_tile;
      int slot = key;
      if (Branches && step.row >= 0 && key <= end && end - key < p.reach)
        slot = p.tensors.paths[(window.first + row) * p.reach + end - key];
      const __nv_bfloat16* from =
          p.keys(run.sequence, window.head) + static_cast<std::int64_t>(slot) * p.cache.width;
      copy_row(to, from, in_tile, key <= end);
      copy_row(to + tile_keys * pitch, from + p.heads.value_offset, in_tile, key <= end);
    }
  }
};

/// The queries as operand A of tensor-core products. a[k] holds elements [16k, 16k + 16) of the heads. All
/// warps hold the same queries.
template <int Spans>
struct QueryFragment {
  std::uint32_t a[4 * Spans][4];

  __device__ __forceinline__ void load(const __nv_bfloat16* queries, int pitch, int dim, const Lane& at) {
#pragma unroll
    for (int k = 0; k < 4 * Spans; ++k)
      if (16 * k < dim) load_matrices(a[k], queries + at.lane % 16 * pitch + 16 * k + at.lane / 16 * 8);
  }
};

/// Scores of 16 queries for the warp's 16 keys of a tile. This thread's value [octet][2 · half + i] belongs
/// to query group + 8 · half and key 8 · octet + 2 · pair + i (see Lane).
struct ScoreFragment {
  float at[2][4] = {};

  template <int Spans>
  __device__ __forceinline__ void multiply_keys(const QueryFragment<Spans>& query, const __nv_bfloat16* keys,
                                                int pitch, int dim, const Lane& lane) {
    const __nv_bfloat16* key =
        keys + (16 * lane.warp + lane.lane / 16 * 8 + lane.lane % 8) * pitch + lane.lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < 4 * Spans; ++k) {
      if (16 * k >= dim) continue;
      std::uint32_t b[4];
      load_matrices(b, key + 16 * k);
      const std::uint32_t(&a)[4] = query.a[k];
      multiply(at[0], a[0], a[1], a[2], a[3], b[0], b[1]);
      multiply(at[1], a[0], a[1], a[2], a[3], b[2], b[3]);
    }
  }

  /// Scales the scores, sets the scores of keys that a query does not attend to to −∞, and stores the warp's
  /// largest score of each query in shared.tops.
  template <bool Branches>
  __device__ __forceinline__ void mask(const Problem& p, const Layout& shared, const Run<Branches>& run,
                                       const Step& step, const Lane& lane) {
    float highest[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int end = !Branches || step.row < 0 || step.row == run.row[half] ? run.limit[half] : -1;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int octet = e / 2,
                  key = step.tile * tile_keys + 16 * lane.warp + 8 * octet + 2 * lane.pair + e % 2;
        float& value = at[octet][2 * half + e % 2];
        value = key <= end ? value * p.heads.scale : -INFINITY;
        highest[half] = fmaxf(highest[half], value);
      }
      highest[half] = quad_max(highest[half]);
      if (lane.pair == 0) shared.tops[lane.warp * most_queries + lane.group + 8 * half] = highest[half];
    }
  }
};

/// The online softmax of 16 queries over the keys processed so far. All weights and sums are relative to
/// `top`.
template <int Spans>
struct OnlineSoftmax {
  float top[2] = {-INFINITY, -INFINITY};  // largest score of queries `group` and group + 8
  float total[2] = {};                    // their sums of weights, over the keys that this thread scored
  // Σ weight · value over all keys, for head elements 64 · span + 16 · warp + [0, 16), laid out as
  // ScoreFragment.
  float sum[Spans][2][4] = {};

  /// Converts the scores of a tile to weights relative to the new largest score, which becomes `top`, and
  /// stores them in the memory of shared.queries, which is free once the queries are in registers. Rescales
  /// `total` and adds the weights to it. The caller must multiply `sum` by `rescale` (add_values()).
  __device__ __forceinline__ void weigh(const ScoreFragment& score, const Layout& shared, const Lane& at,
                                        float (&rescale)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = at.group + 8 * half;
      float new_top = top[half];
#pragma unroll
      for (int w = 0; w < warps; ++w) new_top = fmaxf(new_top, shared.tops[w * most_queries + query]);
      rescale[half] = weight_of(top[half], new_top);
      top[half] = new_top;
      total[half] *= rescale[half];
#pragma unroll
      for (int octet = 0; octet < 2; ++octet) {
        const float low = weight_of(score.at[octet][2 * half], new_top),
                    high = weight_of(score.at[octet][2 * half + 1], new_top);
        total[half] += low + high;
        *reinterpret_cast<__nv_bfloat162*>(shared.queries + query * weight_pitch + 16 * at.warp + 8 * octet +
                                           2 * at.pair) = __floats2bfloat162_rn(low, high);
      }
    }
  }

  /// sum = sum · rescale + weights · values, over all keys of a tile.
  __device__ __forceinline__ void add_values(const float (&rescale)[2], const __nv_bfloat16* weights,
                                             const __nv_bfloat16* values, int pitch, int dim,
                                             const Lane& at) {
#pragma unroll
    for (int span = 0; span < Spans; ++span)
#pragma unroll
      for (int e = 0; e < 8; ++e) sum[span][e / 4][e % 4] *= rescale[e % 4 / 2];
#pragma unroll
    for (int k = 0; k < tile_keys; k += 16) {
      std::uint32_t a[4];
      load_matrices(a, weights + at.lane % 16 * weight_pitch + k + at.lane / 16 * 8);
#pragma unroll
      for (int span = 0; span < Spans; ++span) {
        const int i = 64 * span + 16 * at.warp;
        if (i >= dim) continue;
        std::uint32_t b[4];
        load_matrices_transposed(b, values + (k + at.lane % 16) * pitch + i + at.lane / 16 * 8);
        multiply(sum[span][0], a[0], a[1], a[2], a[3], b[0], b[1]);
        multiply(sum[span][1], a[0], a[1], a[2], a[3], b[2], b[3]);
      }
    }
  }

  /// Stores each warp's sums of weights in shared.totals. A barrier must follow before total_of().
  __device__ __forceinline__ void share_totals(const Layout& shared, const Lane& at) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      total[half] = quad_sum(total[half]);
      if (at.pair == 0) shared.totals[at.warp * most_queries + at.group + 8 * half] = total[half];
    }
  }

  /// Merges the sums over a finished part into `whole`, the sums over the parts before it, and resets this
  /// part. share_totals() and a barrier must come first.
  __device__ __forceinline__ void merge_into(OnlineSoftmax& whole, const Layout& shared, const Lane& at) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Join join(whole.top[half], top[half]);
      whole.top[half] = join.top;
      whole.total[half] = join(whole.total[half], shared.total_of(at.group + 8 * half));
#pragma unroll
      for (int span = 0; span < Spans; ++span)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          float& of_part = sum[span][e / 2][2 * half + e % 2];
          float& of_whole = whole.sum[span][e / 2][2 * half + e % 2];
          of_whole = join(of_whole, of_part);
          of_part = 0;
        }
      top[half] = -INFINITY;
      total[half] = 0;
    }
  }

  /// Calls f(element, sum, next element's sum) for each pair of sums of query group + 8 · half that this
  /// thread holds.
  template <class F>
  __device__ __forceinline__ void for_each_pair(int half, int dim, const Lane& at, F f) const {
#pragma unroll
    for (int span = 0; span < Spans; ++span)
#pragma unroll
      for (int octet = 0; octet < 2; ++octet) {
        const int element = 64 * span + 16 * at.warp + 8 * octet + 2 * at.pair;
        if (element < dim) f(element, sum[span][octet][2 * half], sum[span][octet][2 * half + 1]);
      }
  }
};

}  // namespace foretoken::cuda::cached_attention_bf16

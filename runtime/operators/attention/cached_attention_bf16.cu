#include <algorithm>
#include <cmath>
#include <cooperative_groups.h>
#include <numbers>

#include "runtime/cuda/context.h"
#include "runtime/cuda/hopper.cuh"
#include "runtime/cuda/overlap.cuh"
#include "runtime/cuda/shared_memory.h"
#include "runtime/cuda/warp_product.cuh"
#include "runtime/operators/attention/cached_attention_bf16.h"

namespace foretoken::cuda::cached_attention_bf16 {

namespace {

constexpr int parts = 8;       // of a sequence's keys: tile i belongs to part i % parts
constexpr int tile_keys = 64;  // both fixed, since they make a sum's order
constexpr int warps = 4, block_threads = 32 * warps;
constexpr int most_queries = 16;  // that are taken together, at most: heads of a group, of some rows
constexpr int least_stages = 2, most_stages = 3;  // tiles of a block that are under way
constexpr int weight_pitch = tile_keys + 8;
constexpr int prefetched = 3;    // tiles of a block
constexpr int few_branches = 4;  // rows of trees that are taken together where there are not many

struct Problem {
  const __nv_bfloat16* qkv;
  const std::int32_t *cells, *positions, *paths;  // the last two where rows have paths
  const __nv_bfloat16* cache;
  __nv_bfloat16* out;
  int rows, window;  // all, and those that are taken together
  int reach;         // positions back from a row's own whose places its path names
  int places, width, qkv_width;
  int heads, group, together;  // heads of a group that are taken together
  int dim, value_offset;       // value_offset: from a head's key to its value
  float scale;                 // log₂e / √HS: weights are powers of two
  int stages = least_stages;   // of a block that takes a window alone
};

/// Shared memory of a block. Rows of matrices are 16 bytes longer than they need be, so that the eight rows
/// of a load lie in different banks.
struct Layout {
  __nv_bfloat16 *tiles, *queries;
  float *tops, *totals, *joined;  // [warps, 16] each, then [2, 16]

  __host__ __device__ static int pitch(int dim) { return dim + 8; }
  __host__ __device__ static int tile_elements(int dim) { return 2 * tile_keys * pitch(dim); }
  /// Once queries are in registers, their place is that of the weights.
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
};

__device__ __forceinline__ void prefetch(const void* from, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

/// 2^(x − top). If top is −∞, no key has been processed and every weight is 0.
__device__ __forceinline__ float weight_of(float x, float top) {
  return exp2_fast(x - (top == -INFINITY ? 0.0F : top));
}

/// Merges the sums over two sets of keys, relative to the larger of their two largest scores.
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

/// What a block does at a time: a tile of keys, for all rows of a run or, where keys of the tile are in
/// places that differ by row, for one of them.
struct Step {
  int part, tile, row;  // row −1: all
};

template <int Spans>  // of 64 elements, which cover a head
constexpr int resident = Spans == 1   ? 4
                         : Spans == 2 ? 3
                                      : 1;  // blocks of a multiprocessor, at most

/// The rows come in windows, of which those query heads of one key/value head that fit beside each other are
/// taken together, in runs of rows that are of one sequence. A run's keys are in eight parts; the softmaxes
/// of a part's tiles follow one another, then those of the parts. In a tile a warp scores 16 keys, then
/// weighs the values of all 64 in every fourth 16 elements. Keys past a row's position, and those of other
/// rows' branches, get weights of 0, which change no bit of its sums: so these depend on its keys alone.
/// `Branches`: rows have paths.
///
/// Where there are windows enough a block takes one alone. Else a cluster does, a part in each block, so that
/// the way from the first key to the last is short (Dao et al., "Flash-Decoding for long-context inference",
/// 2023).
template <int Spans, bool Alone, bool Branches>
__global__ void __launch_bounds__(block_threads, resident<Spans>) attend_run(const Problem p) {
  extern __shared__ __align__(128) unsigned char memory[];
  const int stages = Alone ? p.stages : least_stages;
  const Layout shared(memory, p.dim, stages);
  const int pitch = Layout::pitch(p.dim);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int g = lane / 4, t = lane % 4;
  constexpr int blocks = Alone ? 1 : parts;
  const int rank = static_cast<int>(blockIdx.x) % blocks;
  const int first = static_cast<int>(blockIdx.x) / blocks * p.window, count = min(p.window, p.rows - first);
  const int head = static_cast<int>(blockIdx.y) * p.together;

  // A lane knows a row of the window.
  const int cell = p.cells[first + min(lane, count - 1)];
  const int sequence = cell / p.places;
  const int position = Branches ? p.positions[first + min(lane, count - 1)] : cell % p.places;
  const auto keys_of = [&](int s) {
    return p.cache + static_cast<std::int64_t>(s) * p.places * p.width + head / p.group * p.dim;
  };

  let_next_begin();
  {  // what the caches need of memory can come before the rows do
    const __nv_bfloat16* from =
        keys_of(__shfl_sync(full_warp, sequence, 0)) + thread / tile_keys * p.value_offset;
    const int end = __shfl_sync(full_warp, position, 0) + 1;
    const int next = Alone && end <= parts * tile_keys ? 1 : parts;  // tile of the block
    for (int i = 0; i < prefetched; ++i) {
      const int key = (rank + i * next) * tile_keys + thread % tile_keys;
      if (key < end) prefetch(from + static_cast<std::int64_t>(key) * p.width, 2 * p.dim);
    }
  }
  wait_for_earlier_work();

  for (int begin = 0; begin < count;) {
    const int s = __shfl_sync(full_warp, sequence, begin);
    const unsigned alike = __ballot_sync(full_warp, lane < count && sequence == s) >> begin;
    const int length = __ffs(static_cast<int>(~alike)) - 1;  // of the run
    const bool runs = lane >= begin && lane < begin + length;
    const int last = __reduce_max_sync(full_warp, runs ? position : 0);
    const int lowest = __reduce_min_sync(full_warp, runs ? position : last);
    const int tiles = last / tile_keys + 1, many = length * p.together;
    // Tiles whose keys are in the same slots for all rows are processed first.
    const int common = Branches ? max(lowest + 1 - p.reach, 0) / tile_keys : tiles;
    int row_of[2], limit[2];  // of queries g and g + 8: the last key
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = g + 8 * half;
      row_of[half] = min(query / p.together, length - 1);
      const int of_row = __shfl_sync(full_warp, position, begin + row_of[half]);
      limit[half] = query < many ? of_row : -1;
    }

    const int used = min(parts, tiles);  // a step of a later part is none
    const auto step_at = [&](int part, int tile) {
      return Step{part, tile, Branches && tile >= common ? 0 : -1};
    };
    const auto step_after = [&](const Step& step) {
      if (Branches && step.row >= 0 && step.row + 1 < length) return Step{step.part, step.tile, step.row + 1};
      if (step.tile + parts < tiles) return step_at(step.part, step.tile + parts);
      return step_at(step.part + blocks, step.part + blocks);
    };

    // Eight threads copy a row, 64 elements at a time.
    const auto copy_rows = [&](__nv_bfloat16* to, const __nv_bfloat16* from, int row, bool filled) {
#pragma unroll
      for (int span = 0; span < Spans; ++span) {
        const int i = 64 * span + thread % 8 * 8;
        if (i < p.dim)
          copy_16_async(shared_address(to + row * pitch + i), filled ? from + i : p.cache, filled);
      }
    };
    const auto copy_tile = [&](const Step& step, int stage) {
      if (step.part >= used) return;
      const int row = begin + max(step.row, 0);
      const int end = !Branches || step.row < 0 ? last : __shfl_sync(full_warp, position, row);
      __nv_bfloat16* to = shared.tiles + stage * Layout::tile_elements(p.dim);
#pragma unroll
      for (int i = 0; i < tile_keys; i += block_threads / 8) {
        const int at = i + thread / 8, key = step.tile * tile_keys + at;
        int place = key;
        if (Branches && step.row >= 0 && key <= end && end - key < p.reach)
          place = p.paths[(first + row) * p.reach + end - key];
        const __nv_bfloat16* from = keys_of(s) + static_cast<std::int64_t>(place) * p.width;
        copy_rows(to, from, at, key <= end);
        copy_rows(to + tile_keys * pitch, from + p.value_offset, at, key <= end);
      }
    };
    const int own = thread / 8;
    copy_rows(shared.queries,
              p.qkv + static_cast<std::int64_t>(first + begin + own / p.together) * p.qkv_width +
                  (head + own % p.together) * p.dim,
              own, own < many);
    Step ahead = step_at(rank, rank);
    for (int stage = 0; stage < stages; ++stage, ahead = step_after(ahead)) {
      copy_tile(ahead, stage);
      commit_copies();
    }

    std::uint32_t query[4 * Spans][4];
    float top[2] = {-INFINITY, -INFINITY}, total[2] = {}, sum[Spans][2][4] = {};
    // Of the parts so far, where the block has several:
    float whole_top[2] = {-INFINITY, -INFINITY}, whole_total[2] = {}, whole[Spans][2][4] = {};
    const auto spread_total = [&] {  // each warp's of its keys
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        total[half] += __shfl_xor_sync(full_warp, total[half], 1);
        total[half] += __shfl_xor_sync(full_warp, total[half], 2);
        if (t == 0) shared.totals[warp * most_queries + g + 8 * half] = total[half];
      }
    };
    const auto total_of = [&](int at) {
      float all = 0;
#pragma unroll
      for (int w = 0; w < warps; ++w) all += shared.totals[w * most_queries + at];
      return all;
    };
    bool has_queries = false;
    int stage = 0;
    for (Step step = step_at(rank, rank); step.part < used; stage = stage + 1 < stages ? stage + 1 : 0) {
      if (stages == most_stages)
        wait_for_copies<most_stages - 1>();
      else
        wait_for_copies<least_stages - 1>();
      __syncthreads();
      if (!has_queries) {
#pragma unroll
        for (int k = 0; k < 4 * Spans; ++k)
          if (16 * k < p.dim)
            load_matrices(query[k], shared.queries + lane % 16 * pitch + 16 * k + lane / 16 * 8);
        has_queries = true;
      }
      const __nv_bfloat16* keys = shared.tiles + stage * Layout::tile_elements(p.dim);
      const __nv_bfloat16* values = keys + tile_keys * pitch;

      float score[2][4] = {};
      const __nv_bfloat16* key = keys + (16 * warp + lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8;
#pragma unroll
      for (int k = 0; k < 4 * Spans; ++k) {
        if (16 * k >= p.dim) continue;
        std::uint32_t b[4];
        load_matrices(b, key + 16 * k);
        const std::uint32_t(&a)[4] = query[k];
        multiply(score[0], a[0], a[1], a[2], a[3], b[0], b[1]);
        multiply(score[1], a[0], a[1], a[2], a[3], b[2], b[3]);
      }
      float highest[2] = {-INFINITY, -INFINITY};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int end = !Branches || step.row < 0 || step.row == row_of[half] ? limit[half] : -1;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int octet = e / 2, at = step.tile * tile_keys + 16 * warp + 8 * octet + 2 * t + e % 2;
          float& value = score[octet][2 * half + e % 2];
          value = at <= end ? value * p.scale : -INFINITY;
          highest[half] = fmaxf(highest[half], value);
        }
        highest[half] = fmaxf(highest[half], __shfl_xor_sync(full_warp, highest[half], 1));
        highest[half] = fmaxf(highest[half], __shfl_xor_sync(full_warp, highest[half], 2));
        if (t == 0) shared.tops[warp * most_queries + g + 8 * half] = highest[half];
      }
      __syncthreads();  // and all have their queries: weights may take their place

      float rescale[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int at = g + 8 * half;
        float new_top = top[half];
#pragma unroll
        for (int w = 0; w < warps; ++w) new_top = fmaxf(new_top, shared.tops[w * most_queries + at]);
        rescale[half] = weight_of(top[half], new_top);
        top[half] = new_top;
        total[half] *= rescale[half];
#pragma unroll
        for (int octet = 0; octet < 2; ++octet) {
          const float low = weight_of(score[octet][2 * half], new_top),
                      high = weight_of(score[octet][2 * half + 1], new_top);
          total[half] += low + high;
          *reinterpret_cast<__nv_bfloat162*>(shared.queries + at * weight_pitch + 16 * warp + 8 * octet +
                                             2 * t) = __floats2bfloat162_rn(low, high);
        }
      }
      __syncthreads();

#pragma unroll
      for (int span = 0; span < Spans; ++span)
#pragma unroll
        for (int e = 0; e < 8; ++e) sum[span][e / 4][e % 4] *= rescale[e % 4 / 2];
#pragma unroll
      for (int k = 0; k < tile_keys; k += 16) {
        std::uint32_t a[4];
        load_matrices(a, shared.queries + lane % 16 * weight_pitch + k + lane / 16 * 8);
#pragma unroll
        for (int span = 0; span < Spans; ++span) {
          const int i = 64 * span + 16 * warp;
          if (i >= p.dim) continue;
          std::uint32_t b[4];
          load_matrices_transposed(b, values + (k + lane % 16) * pitch + i + lane / 16 * 8);
          multiply(sum[span][0], a[0], a[1], a[2], a[3], b[0], b[1]);
          multiply(sum[span][1], a[0], a[1], a[2], a[3], b[2], b[3]);
        }
      }
      __syncthreads();
      copy_tile(ahead, stage);
      commit_copies();
      ahead = step_after(ahead);

      const int part = step.part;
      step = step_after(step);
      if constexpr (Alone) {
        if (step.part == part) continue;
        spread_total();
        __syncthreads();
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const Join join(whole_top[half], top[half]);
          whole_top[half] = join.top;
          whole_total[half] = join(whole_total[half], total_of(g + 8 * half));
#pragma unroll
          for (int span = 0; span < Spans; ++span)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              float& of_part = sum[span][e / 2][2 * half + e % 2];
              float& of_whole = whole[span][e / 2][2 * half + e % 2];
              of_whole = join(of_whole, of_part);
              of_part = 0;
            }
          top[half] = -INFINITY;
          total[half] = 0;
        }
      }
    }

    const auto out_of = [&](int at) {
      return p.out +
             (static_cast<std::int64_t>(first + begin + at / p.together) * p.heads + head + at % p.together) *
                 p.dim;
    };
    if constexpr (Alone) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int span = 0; span < Spans; ++span)
#pragma unroll
          for (int octet = 0; octet < 2; ++octet) {
            const int at = g + 8 * half, i = 64 * span + 16 * warp + 8 * octet + 2 * t;
            if (at < many && i < p.dim)
              *reinterpret_cast<__nv_bfloat162*>(out_of(at) + i) =
                  __floats2bfloat162_rn(whole[span][octet][2 * half] / whole_total[half],
                                        whole[span][octet][2 * half + 1] / whole_total[half]);
          }
    } else {
      spread_total();
      wait_for_copies<0>();
      __syncthreads();
      // The block's part: sums [16, HS + 8] where the tiles were, then of each query the largest score and
      // the sum of weights.
      auto* sums = reinterpret_cast<float*>(shared.tiles);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int at = g + 8 * half;
        if (t == 0 && warp == 0) {
          shared.joined[at] = top[half];
          shared.joined[most_queries + at] = total_of(at);
        }
#pragma unroll
        for (int span = 0; span < Spans; ++span)
#pragma unroll
          for (int octet = 0; octet < 2; ++octet) {
            const int i = 64 * span + 16 * warp + 8 * octet + 2 * t;
            if (i < p.dim)
              *reinterpret_cast<float2*>(sums + at * pitch + i) = {sum[span][octet][2 * half],
                                                                   sum[span][octet][2 * half + 1]};
          }
      }
      const auto cluster = cooperative_groups::this_cluster();
      cluster.sync();
      const int pairs = p.dim / 2;
      for (int i = rank * block_threads + thread; i < many * pairs; i += parts * block_threads) {
        const int at = i / pairs, element = i % pairs * 2;
        float tops[parts], totals[parts];
        float2 sums_of[parts];
#pragma unroll
        for (int r = 0; r < parts; ++r) {
          const float* joined = cluster.map_shared_rank(shared.joined, r);
          tops[r] = joined[at];
          totals[r] = joined[most_queries + at];
          sums_of[r] =
              *reinterpret_cast<const float2*>(cluster.map_shared_rank(sums, r) + at * pitch + element);
        }
        float highest = -INFINITY, all = 0;
        float2 result = {0, 0};
#pragma unroll
        for (int r = 0; r < parts; ++r) {
          const Join join(highest, tops[r]);
          highest = join.top;
          all = join(all, totals[r]);
          result = {join(result.x, sums_of[r].x), join(result.y, sums_of[r].y)};
        }
        *reinterpret_cast<__nv_bfloat162*>(out_of(at) + element) =
            __floats2bfloat162_rn(result.x / all, result.y / all);
      }
      leave_together();  // others read this block's part
    }
    begin += length;
  }
}

template <int Spans, bool Alone, bool Branches>
void launch(const Context& gpu, Problem p) {
  constexpr auto kernel = attend_run<Spans, Alone, Branches>;
  allow_shared_memory<kernel>(static_cast<int>(Layout::bytes(64 * Spans, most_stages)), "cached_attention");
  constexpr unsigned cluster = Alone ? 1 : parts;
  const dim3 grid(blocks_for(p.rows, p.window) * cluster, static_cast<unsigned>(p.heads / p.together));

  // More tiles under way hide more of what each takes to come, but fewer blocks share a multiprocessor then.
  // Blocks run in waves of as many as there is room for, and a wave takes as long as that is much, for its
  // blocks share what memory gives: so what counts is the room of all waves, filled or not. A part of a
  // cluster's is often a tile or two.
  const auto room = [&](int stages) {
    int together = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&together, kernel, block_threads,
                                                        Layout::bytes(p.dim, stages)),
          "cached_attention");
    return blocks_for(grid.x * grid.y, together * gpu.multiprocessors()) * static_cast<unsigned>(together);
  };
  if (Alone && room(most_stages) <= room(least_stages)) p.stages = most_stages;
  launch_overlapped(
      gpu.stream(), kernel,
      {.grid = grid, .threads = block_threads, .cluster = cluster, .shared = Layout::bytes(p.dim, p.stages)},
      p);
}

template <int Spans>
void launch(const Context& gpu, const Problem& p, bool alone) {
  if (p.reach > 0) return alone ? launch<Spans, true, true>(gpu, p) : launch<Spans, false, true>(gpu, p);
  return alone ? launch<Spans, true, false>(gpu, p) : launch<Spans, false, false>(gpu, p);
}

}  // namespace

bool fits(const CachedAttention& op) {
  for (const Tensor& tensor : {op.qkv, op.cache, op.out})
    if (tensor.dtype != DType::bf16 || !tensor.is_aligned()) return false;
  return op.heads.dim % 16 == 0;
}

void attend(Stream& stream, const CachedAttention& op) {
  const AttentionHeads& h = op.heads;
  const std::int64_t n = op.cells.elements(), sequences = op.cache.shape[0];
  if (n == 0) return;
  const int group = static_cast<int>(h.query / h.key_value);
  int together = std::min(group, most_queries);
  while (group % together != 0) --together;
  const int reach = op.paths.defined() ? static_cast<int>(op.paths.shape[1]) : 0;
  // If all sequences have the same number of rows, a window is one sequence.
  auto window = std::min<std::int64_t>((n + sequences - 1) / sequences, most_queries / together);
  const Context& gpu = stream.cuda();
  const auto windows = [&] { return (n + window - 1) / window * (h.query / together); };
  // Each row of a tree has its last keys for itself, and they wait for each other.
  if (reach > 0 && windows() < gpu.multiprocessors()) window = std::min<std::int64_t>(window, few_branches);
  const Problem p{.qkv = static_cast<const __nv_bfloat16*>(op.qkv.data),
                  .cells = op.cells.as<std::int32_t>(),
                  .positions = reach > 0 ? op.positions.as<std::int32_t>() : nullptr,
                  .paths = reach > 0 ? op.paths.as<std::int32_t>() : nullptr,
                  .cache = static_cast<const __nv_bfloat16*>(op.cache.data),
                  .out = static_cast<__nv_bfloat16*>(op.out.data),
                  .rows = static_cast<int>(n),
                  .window = static_cast<int>(window),
                  .reach = reach,
                  .places = static_cast<int>(op.cache.shape[1]),
                  .width = static_cast<int>(op.cache.shape[2]),
                  .qkv_width = static_cast<int>((h.query + 2 * h.key_value) * h.dim),
                  .heads = static_cast<int>(h.query),
                  .group = group,
                  .together = together,
                  .dim = static_cast<int>(h.dim),
                  .value_offset = static_cast<int>(h.key_value * h.dim),
                  .scale = std::numbers::log2e_v<float> / std::sqrt(static_cast<float>(h.dim))};
  const bool alone = windows() >= gpu.multiprocessors();
  if (p.dim <= 64) return launch<1>(gpu, p, alone);
  if (p.dim <= 128) return launch<2>(gpu, p, alone);
  return launch<4>(gpu, p, alone);
}

}  // namespace foretoken::cuda::cached_attention_bf16

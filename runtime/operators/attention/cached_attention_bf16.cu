#include <algorithm>
#include <cmath>
#include <cooperative_groups.h>
#include <numbers>

#include "runtime/cuda/context.h"
#include "runtime/cuda/overlap.cuh"
#include "runtime/cuda/shared_memory.h"
#include "runtime/operators/attention/cached_attention_bf16.cuh"
#include "runtime/operators/attention/cached_attention_bf16.h"

namespace foretoken::cuda::cached_attention_bf16 {

namespace {

/// Address of the output of a query of the run.
template <bool Branches>
__device__ __forceinline__ __nv_bfloat16* output_of(const Problem& p, const Window& window,
                                                    const Run<Branches>& run, int query) {
  return p.tensors.out +
         (static_cast<std::int64_t>(window.first + run.begin + query / p.heads.per_window) * p.heads.query +
          window.head + query % p.heads.per_window) *
             p.heads.dim;
}

/// Writes out = sum / total. Called if one block has processed all keys of a window.
template <int Spans, bool Branches>
__device__ __forceinline__ void store_outputs(const OnlineSoftmax<Spans>& whole, const Problem& p,
                                              const Window& window, const Run<Branches>& run,
                                              const Lane& at) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = at.group + 8 * half;
    whole.for_each_pair(half, p.heads.dim, at, [&](int element, float first, float second) {
      if (query < run.queries)
        *reinterpret_cast<__nv_bfloat162*>(output_of(p, window, run, query) + element) =
            __floats2bfloat162_rn(first / whole.total[half], second / whole.total[half]);
    });
  }
}

/// Merges the parts that the blocks of a cluster have computed, in the order of the parts, and writes the
/// outputs. Each block merges a share of the outputs and reads the parts from the other blocks' shared
/// memory. A block stores its sums [16, HS + 8] in f32 in the memory of the tiles, and each query's largest
/// score and sum of weights in shared.joined.
template <int Spans, bool Branches>
__device__ __forceinline__ void reduce_cluster(OnlineSoftmax<Spans>& part, const Problem& p,
                                               const Layout& shared, const Window& window,
                                               const Run<Branches>& run, const Lane& at, int rank) {
  part.share_totals(shared, at);
  wait_for_copies<0>();
  __syncthreads();
  const int pitch = Layout::pitch(p.heads.dim);
  auto* sums = reinterpret_cast<float*>(shared.tiles);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = at.group + 8 * half;
    if (at.pair == 0 && at.warp == 0) {
      shared.joined[query] = part.top[half];
      shared.joined[most_queries + query] = shared.total_of(query);
    }
    part.for_each_pair(half, p.heads.dim, at, [&](int element, float first, float second) {
      *reinterpret_cast<float2*>(sums + query * pitch + element) = {first, second};
    });
  }
  const auto cluster = cooperative_groups::this_cluster();
  cluster.sync();
  const int pairs = p.heads.dim / 2;
  for (int i = rank * block_threads + at.thread; i < run.queries * pairs; i += parts * block_threads) {
    const int query = i / pairs, element = i % pairs * 2;
    float tops[parts], totals[parts];
    float2 sums_of[parts];
#pragma unroll
    for (int r = 0; r < parts; ++r) {
      const float* joined = cluster.map_shared_rank(shared.joined, r);
      tops[r] = joined[query];
      totals[r] = joined[most_queries + query];
      sums_of[r] =
          *reinterpret_cast<const float2*>(cluster.map_shared_rank(sums, r) + query * pitch + element);
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
    *reinterpret_cast<__nv_bfloat162*>(output_of(p, window, run, query) + element) =
        __floats2bfloat162_rn(result.x / all, result.y / all);
  }
  cluster_barrier_relaxed();  // other blocks read this block's part
}

/// Prefetches the first keys and values of the window's first row into L2 while earlier kernels may still
/// run. A thread prefetches one key or one value of a tile.
template <bool Alone>
__device__ __forceinline__ void prefetch_keys(const Problem& p, const Window& window, int rank, int thread) {
  const __nv_bfloat16* from = p.keys(__shfl_sync(full_warp, window.sequence, 0), window.head) +
                              thread / tile_keys * p.heads.value_offset;
  const int end = __shfl_sync(full_warp, window.position, 0) + 1;
  const int next = Alone && end <= parts * tile_keys ? 1 : parts;  // distance between tiles of the block
  for (int i = 0; i < prefetched; ++i) {
    const int key = (rank + i * next) * tile_keys + thread % tile_keys;
    if (key < end) prefetch(from + static_cast<std::int64_t>(key) * p.cache.width, 2 * p.heads.dim);
  }
}

/// Computes the outputs of one run.
template <int Spans, bool Alone, bool Branches>
__device__ __forceinline__ void attend_rows(const Problem& p, const Layout& shared, const Window& window,
                                            const Run<Branches>& run, const Lane& at, int rank, int stages) {
  const int pitch = Layout::pitch(p.heads.dim);
  const Loader<Spans, Branches> loader{p, shared, window, run, at, pitch};
  const Steps<Alone ? 1 : parts, Branches> steps{run};
  loader.copy_queries();
  Step ahead = steps.at(rank, rank);
  for (int stage = 0; stage < stages; ++stage, ahead = steps.after(ahead)) {
    loader.copy_tile(ahead, stage);
    commit_copies();
  }

  QueryFragment<Spans> query;
  OnlineSoftmax<Spans> softmax, whole;  // over the current part, and over all previous parts of this block
  bool has_queries = false;
  int stage = 0;
  for (Step step = steps.at(rank, rank); step.part < run.parts_used;
       stage = stage + 1 < stages ? stage + 1 : 0) {
    if (stages == most_stages)
      wait_for_copies<most_stages - 1>();
    else
      wait_for_copies<least_stages - 1>();
    __syncthreads();
    if (!has_queries) {
      query.load(shared.queries, pitch, p.heads.dim, at);
      has_queries = true;
    }
    const __nv_bfloat16* keys = shared.tiles + stage * Layout::tile_elements(p.heads.dim);
    const __nv_bfloat16* values = keys + tile_keys * pitch;

    ScoreFragment score;
    score.multiply_keys(query, keys, pitch, p.heads.dim, at);
    score.mask(p, shared, run, step, at);
    __syncthreads();  // shared.tops is complete; all warps have loaded the queries, so weights may replace
                      // them
    float rescale[2];
    softmax.weigh(score, shared, at, rescale);
    __syncthreads();
    softmax.add_values(rescale, shared.queries, values, pitch, p.heads.dim, at);
    __syncthreads();
    loader.copy_tile(ahead, stage);
    commit_copies();
    ahead = steps.after(ahead);

    const int part = step.part;
    step = steps.after(step);
    if constexpr (Alone) {
      if (step.part == part) continue;
      softmax.share_totals(shared, at);
      __syncthreads();
      softmax.merge_into(whole, shared, at);
    }
  }
  if constexpr (Alone)
    store_outputs(whole, p, window, run, at);
  else
    reduce_cluster(softmax, p, shared, window, run, at, rank);
}

/// Blocks that must fit on a multiprocessor, for heads of up to Spans · 64 elements. Limits the registers.
template <int Spans>
constexpr int resident = Spans == 1   ? 4
                         : Spans == 2 ? 3
                                      : 1;

/// out = softmax(q Kᵀ / √HS) V for each row over its sequence's cached keys (cached_attention.h).
///
/// A block processes one window of rows and the query heads of one key/value head (at most `together` of
/// them), one run after another. The keys of a run are divided into eight parts. The softmax runs over the
/// tiles of a part, and the parts are merged in order. For each tile of 64 keys, a warp computes the scores
/// of 16 keys, exchanges weights with the other warps through shared memory, and multiplies the weights of
/// all 64 keys by 16 of every 64 head elements of the values. Shared memory: a ring of `stages` tiles of keys
/// and values, the queries or weights, and the warps' largest scores and sums of weights. Keys past a row's
/// position and keys of other branches get weight 0, which changes no bit of a sum, so a row's bits depend
/// only on its own keys. `Branches`: rows have paths.
///
/// `Alone`: one block processes all parts of a window. It is used if there are at least as many windows as
/// multiprocessors. Otherwise a cluster processes a window, with one part in each block, which shortens the
/// chain of dependent tiles (Dao et al., "Flash-Decoding for long-context inference", 2023).
template <int Spans, bool Alone, bool Branches>
__global__ void __launch_bounds__(block_threads, resident<Spans>) attend(const Problem p) {
  extern __shared__ __align__(128) unsigned char memory[];
  const int stages = Alone ? p.stages : least_stages;
  const Layout shared(memory, p.heads.dim, stages);
  const Lane at;
  constexpr int blocks = Alone ? 1 : parts;
  const int rank = static_cast<int>(blockIdx.x) % blocks;
  const int first = static_cast<int>(blockIdx.x) / blocks * p.window, count = min(p.window, p.rows - first);
  const int row = first + min(at.lane, count - 1);
  const int slot = p.tensors.slots[row];
  const Window window{.first = first,
                      .count = count,
                      .head = static_cast<int>(blockIdx.y) * p.heads.per_window,
                      .sequence = slot / p.cache.sequence_slots,
                      .position = Branches ? p.tensors.positions[row] : slot % p.cache.sequence_slots};

  launch_dependents();
  prefetch_keys<Alone>(p, window, rank, at.thread);
  wait_for_earlier_work();

  for (int begin = 0; begin < count;) {
    const Run<Branches> run(p, window, at, begin);
    attend_rows<Spans, Alone>(p, shared, window, run, at, rank, stages);
    begin += run.length;
  }
}

template <int Spans, bool Alone, bool Branches>
void launch(const Context& gpu, Problem p) {
  constexpr auto kernel = attend<Spans, Alone, Branches>;
  allow_shared_memory<kernel>(static_cast<int>(Layout::bytes(64 * Spans, most_stages)), "cached_attention");
  constexpr unsigned cluster = Alone ? 1 : parts;
  const dim3 grid(blocks_for(p.rows, p.window) * cluster,
                  static_cast<unsigned>(p.heads.query / p.heads.per_window));

  // A third stage hides more of the latency of copies, but fewer blocks then fit on a multiprocessor. Blocks
  // run in waves. The blocks of a wave share the memory bandwidth, so a wave takes time proportional to the
  // number of blocks that fit on a multiprocessor; the last wave counts as full. The third stage is used if
  // it does not increase the total over all waves. A block of a cluster often has only one or two tiles, so
  // it keeps two stages.
  const auto room = [&](int stages) {
    int resident = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, block_threads,
                                                        Layout::bytes(p.heads.dim, stages)),
          "cached_attention");
    return blocks_for(grid.x * grid.y, resident * gpu.multiprocessors()) * static_cast<unsigned>(resident);
  };
  if (Alone && room(most_stages) <= room(least_stages)) p.stages = most_stages;
  launch_overlapped(gpu.stream(), kernel,
                    {.grid = grid,
                     .threads = block_threads,
                     .cluster = cluster,
                     .shared = Layout::bytes(p.heads.dim, p.stages)},
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
  const std::int64_t n = op.slots.elements(), sequences = op.cache.shape[0];
  if (n == 0) return;
  const int group = static_cast<int>(h.query / h.key_value);
  int per_window = std::min(group, most_queries);
  while (group % per_window != 0) --per_window;
  const int reach = op.paths.defined() ? static_cast<int>(op.paths.shape[1]) : 0;
  // A window holds as many rows as a sequence has on average, if they fit: with equal numbers of rows per
  // sequence, every window is one sequence.
  auto window = std::min<std::int64_t>((n + sequences - 1) / sequences, most_queries / per_window);
  const Context& gpu = stream.cuda();
  const auto windows = [&] { return (n + window - 1) / window * (h.query / per_window); };
  // The rows of a tree need a step each for their last keys, one after another. Smaller windows run them in
  // parallel if multiprocessors would be idle otherwise.
  if (reach > 0 && windows() < gpu.multiprocessors()) window = std::min<std::int64_t>(window, few_branches);
  const Tensors tensors{.qkv = static_cast<const __nv_bfloat16*>(op.qkv.data),
                        .slots = op.slots.as<std::int32_t>(),
                        .positions = reach > 0 ? op.positions.as<std::int32_t>() : nullptr,
                        .paths = reach > 0 ? op.paths.as<std::int32_t>() : nullptr,
                        .cache = static_cast<const __nv_bfloat16*>(op.cache.data),
                        .out = static_cast<__nv_bfloat16*>(op.out.data)};
  const Heads heads{.query = static_cast<int>(h.query),
                    .group = group,
                    .per_window = per_window,
                    .dim = static_cast<int>(h.dim),
                    .value_offset = static_cast<int>(h.key_value * h.dim),
                    .scale = std::numbers::log2e_v<float> / std::sqrt(static_cast<float>(h.dim))};
  const Problem p{.tensors = tensors,
                  .rows = static_cast<int>(n),
                  .window = static_cast<int>(window),
                  .reach = reach,
                  .cache = {.sequence_slots = static_cast<int>(op.cache.shape[1]),
                            .width = static_cast<int>(op.cache.shape[2])},
                  .qkv_width = static_cast<int>((h.query + 2 * h.key_value) * h.dim),
                  .heads = heads};
  const bool alone = windows() >= gpu.multiprocessors();
  if (p.heads.dim <= 64) return launch<1>(gpu, p, alone);
  if (p.heads.dim <= 128) return launch<2>(gpu, p, alone);
  return launch<4>(gpu, p, alone);
}

}  // namespace foretoken::cuda::cached_attention_bf16

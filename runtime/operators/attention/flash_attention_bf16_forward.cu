#include "runtime/operators/attention/flash_attention_bf16.cuh"

namespace foretoken::cuda::flash {

namespace {

constexpr int query_rows = block_rows;
constexpr int key_rows = 128;
constexpr int score_count = key_rows / 2;  // scores that a thread holds of a product [64 × key_rows]

/// Sets scores to −∞ where the query does not attend to the key. t is the position of each of the thread's
/// two queries, `first` the first key that the query attends to, first_column the key of s[0].
__device__ __forceinline__ void mask_scores(float (&s)[score_count], int first_column, const int (&t)[2],
                                            const int (&first)[2]) {
#pragma unroll
  for (int i = 0; i < score_count; ++i) {
    const int u = first_column + i / 4 * 8 + i % 2, r = i / 2 % 2;
    if (u > t[r] || u < first[r]) s[i] = -INFINITY;
  }
}

/// Online softmax of the thread's two queries, one tile of scores at a time. add() replaces each score s of
/// the tile by 2^(scale_log2 · (s − largest)). The caller multiplies its sums over earlier tiles by
/// `rescale`.
struct OnlineSoftmax {
  float largest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};  // over the columns that this thread holds
  float rescale[2];

  __device__ __forceinline__ void add(float (&s)[score_count], float scale_log2) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float top = largest[r];
#pragma unroll
      for (int i = 2 * r; i < score_count; i += 4) top = fmaxf(top, fmaxf(s[i], s[i + 1]));
      top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));  // four threads share a row
      top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
      rescale[r] = exp2_fast((largest[r] - top) * scale_log2);
      largest[r] = top;
      const float shift = top * scale_log2;
      float total = 0;
#pragma unroll
      for (int i = 2 * r; i < score_count; i += 4) {
        s[i] = exp2_fast(fmaf(s[i], scale_log2, -shift));
        s[i + 1] = exp2_fast(fmaf(s[i + 1], scale_log2, -shift));
        total += s[i] + s[i + 1];
      }
      sum[r] = sum[r] * rescale[r] + total;
    }
  }
};

template <int HS>
constexpr int forward_shared =
    tile_alignment + Tile<HS, query_rows>::bytes + 4 * Tile<HS, key_rows>::bytes + 4 * block_threads;

/// out = softmax(Q Kᵀ / √HS) V and lse of each query head.
///
/// A block owns 128 queries of one head, and a warpgroup 64 of them. It processes tiles of 128 keys from the
/// diagonal back to the first key that the queries attend to, so every row's largest score is finite from the
/// first tile on. Shared memory: the queries, two tiles of keys, two tiles of values, and four bytes of
/// scratch per thread (wgmma_wait_after). Registers per thread at HS 128: 64 for out, 64 for the scores, 32
/// for the weights in bf16, which are an operand of the product with V. The tensor cores multiply the weights
/// and values of one tile during the softmax of the next tile.
template <int HS>
__global__ void __launch_bounds__(block_threads, 1)
    forward_kernel(Problem p, Schedule schedule, const __nv_bfloat16* __restrict__ qkv,
                   __nv_bfloat16* __restrict__ out, float* __restrict__ lse) {
  using Queries = Tile<HS, query_rows>;
  using Keys = Tile<HS, key_rows>;
  extern __shared__ unsigned char shared[];
  const std::uint32_t queries = first_tile(shared);
  const std::uint32_t keys = queries + Queries::bytes, values = keys + 2 * Keys::bytes;
  const std::uint32_t scratch = values + 2 * Keys::bytes + threadIdx.x * 4;

  const Work work = schedule.work(blockIdx.x);
  const int tile = schedule.tiles - 1 - work.rank;
  const int q0 = tile * query_rows;
  const int first_tile_of_keys = p.first_key(work.row, q0) / key_rows;
  const int count = q0 / key_rows - first_tile_of_keys + 1;
  const __nv_bfloat16* k = qkv + p.key(work.row, work.head / p.group());
  const __nv_bfloat16* v = qkv + p.value(work.row, work.head / p.group());

  const Place at;
  const int warp_rows = __shfl_sync(0xffffffff, threadIdx.x / warpgroup * warpgroup_rows, 0);
  const int t[2] = {q0 + at.row, q0 + at.row + 8};
  const int first[2] = {p.first_key(work.row, t[0]), p.first_key(work.row, t[1])};
  const int last_first = p.first_key(work.row, q0 + query_rows - 1);
  const float scale_log2 = p.scale * log2_e;

  const auto key0 = [&](int step) { return q0 - step * key_rows; };
  const auto load_keys = [&](int step) {
    if (step < count) Keys::load(keys + step % 2 * Keys::bytes, k, p.qkv_width(), key0(step), p.time);
  };
  const auto load_values = [&](int step) {
    Keys::load(values + step % 2 * Keys::bytes, v, p.qkv_width(), key0(step), p.time);
  };
  const auto mask = [&](float(&s)[score_count], int step) {
    if (step == 0 || key0(step) < last_first) mask_scores(s, key0(step) + at.column, t, first);
  };

  Queries::load(queries, qkv + p.query(work.row, work.head), p.qkv_width(), q0, p.time);
  load_keys(0);
  finish_copies();
  __syncthreads();
  load_keys(1);
  load_values(0);

  float scores[score_count], result[HS / 2];
  std::uint32_t weights[score_count / 2];
  OnlineSoftmax softmax;
#pragma unroll
  for (float& r : result) r = 0;

  pin(scores);
  wgmma_begin();
  row_products<HS, query_rows, key_rows>(scores, queries, warp_rows, keys);
  wgmma_commit();
  wgmma_wait<0>();
  pin(scores);
  mask(scores, 0);
  softmax.add(scores, scale_log2);
  pack(scores, weights);

  for (int step = 1; step < count; ++step) {
    finish_copies();
    // This step's keys and the previous step's values have arrived. No thread reads the buffers that the next
    // copies overwrite.
    __syncthreads();
    pin(scores);
    pin(result);
    pin(weights);
    wgmma_begin();
    row_products<HS, query_rows, key_rows>(scores, queries, warp_rows, keys + step % 2 * Keys::bytes);
    wgmma_commit();
    weighted_rows<HS, key_rows>(result, weights, values + (step - 1) % 2 * Keys::bytes);
    wgmma_commit();
    load_keys(step + 1);
    load_values(step);
    wgmma_wait<1>();
    pin(scores);
    mask(scores, step);
    softmax.add(scores, scale_log2);
    wgmma_wait_after<0>(softmax.sum[0] + softmax.sum[1], scratch);
    pin(result);
    pin(weights);
#pragma unroll
    for (int i = 0; i < HS / 2; ++i) result[i] *= softmax.rescale[i / 2 % 2];
    pack(scores, weights);
  }

  finish_copies();
  __syncthreads();
  start_weighted_rows<HS, key_rows>(result, weights, values + (count - 1) % 2 * Keys::bytes);
  wgmma_wait<0>();
  pin(result);

  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = softmax.sum[r];
    sum += __shfl_xor_sync(0xffffffff, sum, 1);
    sum += __shfl_xor_sync(0xffffffff, sum, 2);
    inverse[r] = 1 / sum;
    if (at.column == 0 && t[r] < p.time)
      lse[p.statistic(work.row, work.head) + t[r]] = softmax.largest[r] * p.scale + logf(sum);
  }
  store_rows<HS>(result, inverse, out + p.out(work.row, work.head), p.out_width(), t[0], p.time);
}

}  // namespace

void forward_bf16(cudaStream_t stream, const Problem& p, const __nv_bfloat16* qkv, __nv_bfloat16* out,
                  float* lse) {
  with_head_dim(p.dim, [&]<int HS>() {
    const Schedule schedule(p, query_rows, p.heads, sizeof(*qkv));
    allow_shared_memory<forward_kernel<HS>>(forward_shared<HS>, "flash_attention");
    forward_kernel<HS>
        <<<schedule.blocks(), block_threads, forward_shared<HS>, stream>>>(p, schedule, qkv, out, lse);
    check_launch("flash_attention_forward");
  });
}

}  // namespace foretoken::cuda::flash

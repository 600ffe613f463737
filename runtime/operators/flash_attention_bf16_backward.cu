#include "runtime/operators/flash_attention_bf16.cuh"

namespace foretoken::cuda::flash {

namespace {

constexpr int owned_rows = block_rows;  // queries or keys of a block
constexpr int score_rows = 64;          // of the other side, a tile
constexpr int stages = 3;               // of the other side's tiles: in products, waited for, coming
constexpr int count = score_rows / 2;   // of a thread: its share of 64 × score_rows scores

// Both kernels rebuild P = exp(Q Kᵀ/√HS − lse) and with it dS = P ∘ (dO Vᵀ − delta), whose factor 1/√HS is
// left to the end. lse_log2 stands for lse · log₂e.
__device__ __forceinline__ float weight(float score, float scale_log2, float lse_log2) {
  return exp2_fast(fmaf(score, scale_log2, -lse_log2));
}

/// What the keys' kernel needs of a tile of queries beside Q and dO.
struct Statistics {
  float lse[score_rows];
  float delta[score_rows];
  std::int32_t first[score_rows];  // below 0 for 0
};

template <int HS>
constexpr int keys_shared = tile_alignment + 2 * Tile<HS, owned_rows>::bytes +
                            2 * stages* Tile<HS, score_rows>::bytes +
                            stages* static_cast<int>(sizeof(Statistics));

/// dV = Pᵀ dO and dK = dSᵀ Q / √HS, per key/value head, over the queries of all its query heads.
///
/// A block owns 128 keys of one key/value head, a warpgroup 64 of them, and goes through the tiles of 64
/// queries that see any of them, query head by query head: no sum has two writers. All scores are transposed,
/// [keys × queries], so that Pᵀ and dSᵀ are in registers what the next products take as operand and never
/// pass through shared memory, which holds K, V and three stages of Q, dO and their rows' statistics.
/// Registers of a thread: dK and dV 64 each, P and dP 32 each. Products run while P and dS are computed
/// beside them; those of dV and dK end only in the next step, behind that step's scores.
template <int HS>
__global__ void __launch_bounds__(block_threads, 1)
    keys_kernel(Problem p, Schedule schedule, const __nv_bfloat16* __restrict__ dout,
                const __nv_bfloat16* __restrict__ qkv, const float* __restrict__ lse,
                const float* __restrict__ delta, __nv_bfloat16* __restrict__ dqkv) {
  using Keys = Tile<HS, owned_rows>;
  using Queries = Tile<HS, score_rows>;
  extern __shared__ unsigned char shared[];
  const std::uint32_t keys = first_tile(shared), values = keys + Keys::bytes;
  const std::uint32_t queries = values + Keys::bytes, douts = queries + stages * Queries::bytes;
  const std::uint32_t statistics_address = douts + stages * Queries::bytes;
  const auto* statistics =
      reinterpret_cast<const Statistics*>(shared + (statistics_address - shared_address(shared)));

  const Work work = schedule.work(blockIdx.x);
  const int k0 = work.rank * owned_rows, k1 = k0 + owned_rows;

  int end = p.time;  // of the queries that see a key: document starts never fall, so these lie together
  if (p.document_start != nullptr) {
    end = k0;
    for (int seeing = block_threads; seeing == block_threads; end += seeing) {
      const int t = end + threadIdx.x;
      seeing = __syncthreads_count(t < p.time && p.first_key(work.row, t) < k1);
    }
  }

  const Place at;
  const int warp_rows = __shfl_sync(0xffffffff, threadIdx.x / warpgroup * warpgroup_rows, 0);
  const float scale_log2 = p.scale * log2_e;

  const auto load = [&](int stage, int head, int q0) {
    Queries::load(queries + stage * Queries::bytes, qkv + p.query(work.row, head), p.qkv_width(), q0, p.time);
    Queries::load(douts + stage * Queries::bytes, dout + p.out(work.row, head), p.out_width(), q0, p.time);
    if (threadIdx.x < score_rows) {
      const int t = q0 + threadIdx.x, held = min(t, p.time - 1);
      const std::int64_t i = p.statistic(work.row, head) + held;
      const std::uint32_t to = statistics_address + stage * sizeof(Statistics) + threadIdx.x * 4;
      copy_4_async(to + offsetof(Statistics, lse), lse + i, t < p.time);  // else 0, as Q, dO: P = 1, dS = 0
      copy_4_async(to + offsetof(Statistics, delta), delta + i, t < p.time);
      if (p.document_start != nullptr)
        copy_4_async(to + offsetof(Statistics, first), p.document_start + work.row * p.document_stride + held,
                     true);
    }
  };

  Keys::load(keys, qkv + p.key(work.row, work.head), p.qkv_width(), k0, p.time);
  Keys::load(values, qkv + p.value(work.row, work.head), p.qkv_width(), k0, p.time);
  int head = work.head * p.group(), q0 = k0;
  const int heads_end = head + p.group();
  load(0, head, q0);

  float dk[HS / 2], dv[HS / 2], weights[count], dscores[count];
  std::uint32_t operand[count / 2], doperand[count / 2];
#pragma unroll
  for (int i = 0; i < HS / 2; ++i) dk[i] = dv[i] = 0;

  int stage = 0;
  do {  // there is a step; a loop that might have none would make the compiler end dK within each step
    finish_copies();
    __syncthreads();  // this step's queries have come; nobody reads those before the last any more
    const std::uint32_t q_tile = queries + stage * Queries::bytes;
    const std::uint32_t dout_tile = douts + stage * Queries::bytes;
    const Statistics& of = statistics[stage];
    const int to_diagonal = q0 - k0;
    stage = stage + 1 < stages ? stage + 1 : 0;
    q0 += score_rows;
    if (q0 >= end) {
      q0 = k0;
      ++head;
    }
    if (head < heads_end) load(stage, head, q0);

    pin(weights);
    pin(dscores);
    wgmma_begin();
    row_products<HS, owned_rows, score_rows>(weights, keys, warp_rows, q_tile);
    wgmma_commit();
    row_products<HS, owned_rows, score_rows>(dscores, values, warp_rows, dout_tile);
    wgmma_commit();
    wgmma_wait<1>();  // all but dP: the last step's dK too
    pin(weights);
    pin(dk);
    pin(doperand);
    if (to_diagonal < owned_rows - 1) {
#pragma unroll
      for (int i = 0; i < count; ++i)
        if (at.row + i / 2 % 2 * 8 > to_diagonal + at.column + i / 4 * 8 + i % 2) weights[i] = -INFINITY;
    }
    if (p.document_start != nullptr && of.first[score_rows - 1] > k0) {
      const int u = k0 + at.row;
#pragma unroll
      for (int i = 0; i < count; ++i)
        if (u + i / 2 % 2 * 8 < of.first[at.column + i / 4 * 8 + i % 2]) weights[i] = -INFINITY;
    }
#pragma unroll
    for (int g = 0; g < score_rows / 8; ++g) {
      const float2 l = *reinterpret_cast<const float2*>(of.lse + 8 * g + at.column);
#pragma unroll
      for (int r = 0; r < 4; r += 2) {
        weights[4 * g + r] = weight(weights[4 * g + r], scale_log2, l.x * log2_e);
        weights[4 * g + r + 1] = weight(weights[4 * g + r + 1], scale_log2, l.y * log2_e);
      }
    }
    pack(weights, operand);

    pin(dv);
    pin(operand);
    wgmma_begin();
    weighted_rows<HS, score_rows>(dv, operand, dout_tile);  // dV += Pᵀ dO
    wgmma_commit();
    wgmma_wait<1>();
    pin(dscores);
#pragma unroll
    for (int g = 0; g < score_rows / 8; ++g) {
      const float2 d = *reinterpret_cast<const float2*>(of.delta + 8 * g + at.column);
#pragma unroll
      for (int r = 0; r < 4; r += 2) {
        dscores[4 * g + r] = weights[4 * g + r] * (dscores[4 * g + r] - d.x);
        dscores[4 * g + r + 1] = weights[4 * g + r + 1] * (dscores[4 * g + r + 1] - d.y);
      }
    }
    pack(dscores, doperand);

    pin(dk);
    pin(doperand);
    wgmma_begin();
    weighted_rows<HS, score_rows>(dk, doperand, q_tile);  // dK += dSᵀ Q
    wgmma_commit();
    wgmma_wait<1>();
    pin(dv);
    pin(operand);
  } while (head < heads_end);
  wgmma_wait<0>();
  pin(dk);

  const float scale[2] = {p.scale, p.scale}, one[2] = {1, 1};
  store_rows<HS>(dk, scale, dqkv + p.key(work.row, work.head), p.qkv_width(), k0 + at.row, p.time);
  store_rows<HS>(dv, one, dqkv + p.value(work.row, work.head), p.qkv_width(), k0 + at.row, p.time);
}

template <int HS>
constexpr int queries_shared =
    tile_alignment + 2 * Tile<HS, owned_rows>::bytes + 2 * stages* Tile<HS, score_rows>::bytes;

/// dQ = dS K / √HS, per query head.
///
/// A block owns 128 queries of one head, a warpgroup 64 of them, and goes through the tiles of 64 keys that
/// they see. Shared memory: Q, dO and three stages of K and V, used as above. Registers of a thread: dQ 64, P
/// and dP 32 each. That this kernel computes P and dP a second time is the price of no sum having two
/// writers.
template <int HS>
__global__ void __launch_bounds__(block_threads, 1)
    queries_kernel(Problem p, Schedule schedule, const __nv_bfloat16* __restrict__ dout,
                   const __nv_bfloat16* __restrict__ qkv, const float* __restrict__ lse,
                   const float* __restrict__ delta, __nv_bfloat16* __restrict__ dqkv) {
  using Queries = Tile<HS, owned_rows>;
  using Keys = Tile<HS, score_rows>;
  extern __shared__ unsigned char shared[];
  const std::uint32_t queries = first_tile(shared), douts = queries + Queries::bytes;
  const std::uint32_t keys = douts + Queries::bytes, values = keys + stages * Keys::bytes;

  const Work work = schedule.work(blockIdx.x);
  const int q0 = (schedule.tiles - 1 - work.rank) * owned_rows;
  const int first_key0 = p.first_key(work.row, q0) / score_rows * score_rows;
  const int end = min(q0 + owned_rows, p.time);
  const __nv_bfloat16* k = qkv + p.key(work.row, work.head / p.group());
  const __nv_bfloat16* v = qkv + p.value(work.row, work.head / p.group());

  const Place at;
  const int warp_rows = __shfl_sync(0xffffffff, threadIdx.x / warpgroup * warpgroup_rows, 0);
  const float scale_log2 = p.scale * log2_e;
  const int last_first = p.first_key(work.row, q0 + owned_rows - 1);
  int t[2], first[2];
  float lse_log2[2], row_delta[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    t[r] = q0 + at.row + 8 * r;
    first[r] = p.first_key(work.row, t[r]);
    const std::int64_t i = p.statistic(work.row, work.head) + min(t[r], p.time - 1);
    lse_log2[r] = lse[i] * log2_e;
    row_delta[r] = delta[i];
  }

  const auto load = [&](int stage, int key0) {
    Keys::load(keys + stage * Keys::bytes, k, p.qkv_width(), key0, p.time);
    Keys::load(values + stage * Keys::bytes, v, p.qkv_width(), key0, p.time);
  };

  Queries::load(queries, qkv + p.query(work.row, work.head), p.qkv_width(), q0, p.time);
  Queries::load(douts, dout + p.out(work.row, work.head), p.out_width(), q0, p.time);
  load(0, first_key0);

  float dq[HS / 2], weights[count], dscores[count];
  std::uint32_t operand[count / 2];
#pragma unroll
  for (float& d : dq) d = 0;

  int stage = 0, key0 = first_key0;
  do {
    finish_copies();
    __syncthreads();  // this step's keys have come; nobody reads those before the last any more
    const int next_stage = stage + 1 < stages ? stage + 1 : 0;
    if (key0 + score_rows < end) load(next_stage, key0 + score_rows);
    const std::uint32_t key_tile = keys + stage * Keys::bytes;

    pin(weights);
    pin(dscores);
    wgmma_begin();
    row_products<HS, owned_rows, score_rows>(weights, queries, warp_rows, key_tile);
    wgmma_commit();
    row_products<HS, owned_rows, score_rows>(dscores, douts, warp_rows, values + stage * Keys::bytes);
    wgmma_commit();
    wgmma_wait<1>();  // all but dP: the last step's dQ too
    pin(weights);
    pin(dq);
    pin(operand);
    if (key0 + score_rows - 1 > q0 || key0 < last_first) {
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const int u = key0 + i / 4 * 8 + at.column + i % 2, r = i / 2 % 2;
        if (u > t[r] || u < first[r]) weights[i] = -INFINITY;
      }
    }
#pragma unroll
    for (int i = 0; i < count; ++i) weights[i] = weight(weights[i], scale_log2, lse_log2[i / 2 % 2]);
    wgmma_wait<0>();
    pin(dscores);
#pragma unroll
    for (int i = 0; i < count; ++i) dscores[i] = weights[i] * (dscores[i] - row_delta[i / 2 % 2]);
    pack(dscores, operand);

    pin(dq);
    pin(operand);
    wgmma_begin();
    weighted_rows<HS, score_rows>(dq, operand, key_tile);  // dQ += dS K
    wgmma_commit();
    stage = next_stage;
    key0 += score_rows;
  } while (key0 < end);
  wgmma_wait<0>();
  pin(dq);

  const float scale[2] = {p.scale, p.scale};
  store_rows<HS>(dq, scale, dqkv + p.query(work.row, work.head), p.qkv_width(), t[0], p.time);
}

}  // namespace

void backward_bf16(cudaStream_t stream, const Problem& p, const __nv_bfloat16* dout, const __nv_bfloat16* qkv,
                   const float* lse, const float* delta, __nv_bfloat16* dqkv) {
  with_head_dim(p.dim, [&]<int HS>() {
    const Schedule by_keys(p, owned_rows, p.kv_heads, sizeof(*qkv));
    allow_shared_memory<keys_kernel<HS>>(keys_shared<HS>);
    keys_kernel<HS><<<by_keys.blocks(), block_threads, keys_shared<HS>, stream>>>(p, by_keys, dout, qkv, lse,
                                                                                  delta, dqkv);
    check_launch("flash_attention_backward: keys and values");

    const Schedule by_queries(p, owned_rows, p.heads, sizeof(*qkv));
    allow_shared_memory<queries_kernel<HS>>(queries_shared<HS>);
    queries_kernel<HS><<<by_queries.blocks(), block_threads, queries_shared<HS>, stream>>>(
        p, by_queries, dout, qkv, lse, delta, dqkv);
    check_launch("flash_attention_backward: queries");
  });
}

}  // namespace foretoken::cuda::flash

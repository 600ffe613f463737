#include "runtime/cuda/device.cuh"
#include "runtime/operators/attention/flash_attention_bf16_backward.cuh"

namespace foretoken::cuda::flash {

namespace {

constexpr int score_rows = 64;         // keys of a tile
constexpr int count = score_rows / 2;  // scores per thread, of a product [64 queries × score_rows keys]

template <int HS>
constexpr int queries_shared =
    tile_alignment + 2 * Tile<HS, owned_rows>::bytes + 2 * stages* Tile<HS, score_rows>::bytes;

/// dQ = dS K / √HS of each query head, rotated back by rope if the problem has rope tables.
///
/// A block owns 128 queries of one head, and a warpgroup 64 of them. It processes the tiles of 64 keys that
/// these queries attend to. Shared memory: Q, dO and three stages of K and V. Registers per thread at HS 128:
/// 64 for dQ, 32 each for P and dP. This kernel computes P and dP again, after keys_kernel, so that dQ has
/// one writer and a fixed order of its sum.
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
    // This step's keys have arrived. No thread reads the keys of two steps ago any more.
    __syncthreads();
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
    wgmma_wait<1>();  // only dP may be unfinished: P and the previous step's dQ are complete
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

    start_weighted_rows<HS, score_rows>(dq, operand, key_tile);  // dQ += dS K
    stage = next_stage;
    key0 += score_rows;
  } while (key0 < end);
  wgmma_wait<0>();
  pin(dq);

  rotate_back<HS>(p, dq, t[0]);
  const float scale[2] = {p.scale, p.scale};
  store_rows<HS>(dq, scale, dqkv + p.query(work.row, work.head), p.qkv_width(), t[0], p.time);
}

/// dQ = sums / √HS, rotated back by rope if the problem has rope tables, and rounded to bf16.
///
/// A block owns a tile of 64 queries of one head (QuerySums). A thread owns eight columns of two rows in each
/// half of the head, so it has both elements of the pairs that rope rotates. Its elements of one half are 64
/// contiguous bytes of `sums`.
template <int HS>
__global__ void queries_sums_kernel(Problem p, const float* __restrict__ sums,
                                    __nv_bfloat16* __restrict__ dqkv) {
  using Sums = QuerySums<HS>;
  constexpr int pieces = Sums::columns / 8;  // pieces of eight columns per row
  const int piece = threadIdx.x % pieces, pair = threadIdx.x / pieces;
  const unsigned tiles = p.padded_time() / warpgroup_rows;
  const unsigned head = blockIdx.x / tiles;  // index among the heads of all rows
  const int t0 = int(blockIdx.x % tiles) * warpgroup_rows + pair / 8 * 16 + pair % 8;
  const auto* from = reinterpret_cast<const float4*>(sums + std::int64_t(blockIdx.x) * Sums::tile) +
                     piece * warpgroup + pair * 4;
  float x[2][2][8];  // [row][half][column]
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 sum = from[half * Sums::part / 4 + i];
      x[0][half][2 * i] = sum.x;
      x[0][half][2 * i + 1] = sum.y;
      x[1][half][2 * i] = sum.z;
      x[1][half][2 * i + 1] = sum.w;
    }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int t = t0 + 8 * r;
    if (t >= p.time) continue;
    if (p.rope_cos != nullptr) {
      const std::int64_t angles = std::int64_t(t) * Sums::columns + piece * 8;
      const Pack<float, 8> cos = load<8>(p.rope_cos + angles), sin = load<8>(p.rope_sin + angles);
#pragma unroll
      for (int j = 0; j < 8; ++j) rotate_back(x[r][0][j], x[r][1][j], cos.at[j], sin.at[j]);
    }
    __nv_bfloat16* to =
        dqkv + p.query(int(head / p.heads), int(head % p.heads)) + t * p.qkv_width() + piece * 8;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t pack[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        pack[i] = packed(x[r][half][2 * i] * p.scale, x[r][half][2 * i + 1] * p.scale);
      *reinterpret_cast<uint4*>(to + half * Sums::columns) = make_uint4(pack[0], pack[1], pack[2], pack[3]);
    }
  }
}

template <int HS>
void sum_queries(cudaStream_t stream, const Problem& p, const float* sums, __nv_bfloat16* dqkv) {
  using Sums = QuerySums<HS>;
  const auto tiles = static_cast<unsigned>(p.rows * p.heads) * (p.padded_time() / warpgroup_rows);
  queries_sums_kernel<HS><<<tiles, warpgroup_rows / 2 * Sums::columns / 8, 0, stream>>>(p, sums, dqkv);
  check_launch("flash_attention_backward: sums of queries");
}

}  // namespace

void backward_bf16(cudaStream_t stream, const Problem& p, const BackwardTensors<__nv_bfloat16>& tensors,
                   float* sums) {
  if (sums != nullptr)
    check(cudaMemsetAsync(sums, 0, std::size_t(p.rows) * p.heads * p.padded_time() * p.dim * sizeof(float),
                          stream),
          "flash_attention_backward: sums");
  keys_backward(stream, p, tensors, sums);
  with_head_dim(p.dim, [&]<int HS>() {
    if constexpr (QuerySums<HS>::supported)
      if (sums != nullptr) return sum_queries<HS>(stream, p, sums, tensors.dqkv);
    const Schedule schedule(p, owned_rows, p.heads, sizeof(*tensors.qkv));
    allow_shared_memory<queries_kernel<HS>>(queries_shared<HS>, "flash_attention");
    queries_kernel<HS><<<schedule.blocks(), block_threads, queries_shared<HS>, stream>>>(
        p, schedule, tensors.dout, tensors.qkv, tensors.lse, tensors.delta, tensors.dqkv);
    check_launch("flash_attention_backward: queries");
  });
}

}  // namespace foretoken::cuda::flash

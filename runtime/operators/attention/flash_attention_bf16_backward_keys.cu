#include "runtime/operators/attention/flash_attention_bf16_backward.cuh"

namespace foretoken::cuda::flash {

namespace {

constexpr int rows = 64;                // queries of a tile
constexpr int count = rows / 2;         // scores that a thread holds of a product [64 keys × rows queries]
using Scores = Tile<rows, owned_rows>;  // dSᵀ [keys × queries] of both warpgroups

/// The statistics of a tile of queries that the kernel reads in addition to Q and dO.
struct Statistics {
  float lse[rows];
  float delta[rows];
  std::int32_t first[rows];  // first key; a negative value stands for 0
};

template <int HS, bool adds_queries>
constexpr int keys_shared =
    tile_alignment + 2 * Tile<HS, owned_rows>::bytes + 2 * stages* Tile<HS, rows>::bytes +
    (adds_queries ? 2 * Scores::bytes : 0) + stages* static_cast<int>(sizeof(Statistics));

/// dV = Pᵀ dO and dK = dSᵀ Q / √HS of each key/value head, summed over its query heads. With adds_queries,
/// the kernel also adds dS K to `sums`, the sums of dQ. dK is rotated back by rope if the problem has rope
/// tables.
///
/// A block owns 128 keys of one key/value head, and a warpgroup 64 of them. The block processes the tiles of
/// 64 queries that attend to any of these keys, one query head after another, so dK and dV have one writer.
/// All scores are transposed, [keys × queries], so that Pᵀ and dSᵀ are in the registers that the products for
/// dV and dK read. dQ is a sum over the keys of both warpgroups: dSᵀ passes through shared memory, and each
/// warpgroup computes half the columns of the product and adds them to global memory. Shared memory: K, V,
/// three stages of Q, dO and their rows' statistics, and two buffers of dSᵀ; one barrier per step publishes
/// the copies and dSᵀ. Registers per thread at HS 128: 64 each for dK and dV, 32 each for P, dP and dQ. The
/// tensor cores work while registers are processed: they compute dP during the exponentials of P, dV during
/// dS, half of dK at the barrier and the other half while dQ is added.
template <int HS, bool adds_queries>
__global__ void __launch_bounds__(block_threads, 1)
    keys_kernel(Problem p, Schedule schedule, const __nv_bfloat16* __restrict__ dout,
                const __nv_bfloat16* __restrict__ qkv, const float* __restrict__ lse,
                const float* __restrict__ delta, __nv_bfloat16* __restrict__ dqkv, float* __restrict__ sums) {
  using Sums = QuerySums<HS>;
  using Keys = Tile<HS, owned_rows>;
  using Queries = Tile<HS, rows>;
  extern __shared__ unsigned char shared[];
  const std::uint32_t keys = first_tile(shared), values = keys + Keys::bytes;
  const std::uint32_t queries = values + Keys::bytes, douts = queries + stages * Queries::bytes;
  const std::uint32_t scores = douts + stages * Queries::bytes;
  const std::uint32_t statistics_address = scores + (adds_queries ? 2 * Scores::bytes : 0);
  const auto* statistics =
      reinterpret_cast<const Statistics*>(shared + (statistics_address - shared_address(shared)));

  const Work work = schedule.work(blockIdx.x);
  const int k0 = work.rank * owned_rows, k1 = k0 + owned_rows;

  // End of the queries that attend to a key of the block. These queries are contiguous, because document
  // starts never decrease.
  int end = p.time;
  if (p.document_start != nullptr) {
    end = k0;
    for (int seeing = block_threads; seeing == block_threads; end += seeing) {
      const int t = end + threadIdx.x;
      seeing = __syncthreads_count(t < p.time && p.first_key(work.row, t) < k1);
    }
  }

  const Place at;
  const int group = __shfl_sync(0xffffffff, threadIdx.x / warpgroup, 0);
  const float scale_log2 = p.scale * log2_e;
  const int tiles = (end - k0 + rows - 1) / rows;  // tiles of queries per head

  int load_head = work.head * p.group(), load_q0 = k0, load_stage = 0;
  const int heads_end = load_head + p.group();
  const auto load_next = [&] {
    if (load_head == heads_end) return;
    Queries::load(queries + load_stage * Queries::bytes, qkv + p.query(work.row, load_head), p.qkv_width(),
                  load_q0, p.time);
    Queries::load(douts + load_stage * Queries::bytes, dout + p.out(work.row, load_head), p.out_width(),
                  load_q0, p.time);
    if (threadIdx.x < rows) {
      const int t = load_q0 + threadIdx.x, held = min(t, p.time - 1);
      const std::int64_t i = p.statistic(work.row, load_head) + held;
      const std::uint32_t to = statistics_address + load_stage * sizeof(Statistics) + threadIdx.x * 4;
      // Rows past the end are zeros in Q, dO, lse and delta. P is 1 there and dS is 0, so they add nothing.
      copy_4_async(to + offsetof(Statistics, lse), lse + i, t < p.time);
      copy_4_async(to + offsetof(Statistics, delta), delta + i, t < p.time);
      if (p.document_start != nullptr)
        copy_4_async(to + offsetof(Statistics, first), p.document_start + work.row * p.document_stride + held,
                     true);
    }
    load_stage = load_stage + 1 < stages ? load_stage + 1 : 0;
    load_q0 += rows;
    if (load_q0 >= end) {
      load_q0 = k0;
      ++load_head;
    }
  };

  float dk[HS / 2], dv[HS / 2], weights[count], dscores[count], dq[Sums::count];
  std::uint32_t operand[count / 2], doperand[count / 2];
#pragma unroll
  for (int i = 0; i < HS / 2; ++i) dk[i] = dv[i] = 0;

  int left = tiles * p.group(), q0 = k0, stage = 0, half = 0;
  [[maybe_unused]] float* to = nullptr;
  if constexpr (adds_queries)
    to = sums +
         (std::int64_t(work.row * p.heads + work.head * p.group()) * schedule.tiles * owned_rows + k0) * HS +
         group * Sums::part + threadIdx.x % warpgroup * 4;
  const auto add_queries = [&] {
    pin(dq);
#pragma unroll
    for (int i = 0; i < Sums::count; i += 4)
      add_4(to + i * warpgroup, dq[i], dq[i + 1], dq[i + 2], dq[i + 3]);
  };
  const auto rebuild_weights = [&] {
    pin(weights);
    wgmma_begin();
    row_products<HS, owned_rows, rows>(weights, keys, group * warpgroup_rows,
                                       queries + stage * Queries::bytes);
    wgmma_commit();
  };
  const auto rebuild_dscores = [&] {
    pin(dscores);
    wgmma_begin();
    row_products<HS, owned_rows, rows>(dscores, values, group * warpgroup_rows,
                                       douts + stage * Queries::bytes);
    wgmma_commit();
  };

  Keys::load(keys, qkv + p.key(work.row, work.head), p.qkv_width(), k0, p.time);
  Keys::load(values, qkv + p.value(work.row, work.head), p.qkv_width(), k0, p.time);
  load_next();
  finish_copies();
  __syncthreads();
  if constexpr (!adds_queries) load_next();

  // Every block has at least one step. In a loop that might run zero times, the compiler would wait for the
  // product of dK in each step.
  do {
    const std::uint32_t q_tile = queries + stage * Queries::bytes;
    const std::uint32_t dout_tile = douts + stage * Queries::bytes;
    const Statistics& of = statistics[stage];

    rebuild_weights();
    rebuild_dscores();
    if constexpr (adds_queries) load_next();
    wgmma_wait<1>();
    pin(weights);
    pin(dk);
    pin(doperand);
    if (q0 - k0 < owned_rows - 1) {
#pragma unroll
      for (int i = 0; i < count; ++i)
        if (at.row + i / 2 % 2 * 8 > q0 - k0 + at.column + i / 4 * 8 + i % 2) weights[i] = -INFINITY;
    }
    if (p.document_start != nullptr && of.first[rows - 1] > k0) {
      const int u = k0 + at.row;
#pragma unroll
      for (int i = 0; i < count; ++i)
        if (u + i / 2 % 2 * 8 < of.first[at.column + i / 4 * 8 + i % 2]) weights[i] = -INFINITY;
    }
#pragma unroll
    for (int g = 0; g < rows / 8; ++g) {
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
    weighted_rows<HS, rows>(dv, operand, dout_tile);  // dV += Pᵀ dO
    wgmma_commit();
    wgmma_wait<1>();
    pin(dscores);
#pragma unroll
    for (int g = 0; g < rows / 8; ++g) {
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
    weighted_rows<HS, rows, 0, 2>(dk, doperand, q_tile);  // dK += dSᵀ Q
    wgmma_commit();
    if constexpr (adds_queries) store_operand<Scores>(scores + half * Scores::bytes, doperand);
    finish_copies();
    // Publishes dSᵀ and the next queries. No thread reads the previous step's queries any more.
    __syncthreads();
    if constexpr (adds_queries) {
      const std::uint32_t a = scores + half * Scores::bytes;
      const std::uint32_t b = keys + Keys::column(group * Sums::columns);
      pin(dq);
      wgmma_begin();
#pragma unroll
      for (int step = 0; step < owned_rows / 16; ++step)
        WgmmaM64K16<Sums::columns>::template multiply<Major::mn, Major::mn>(
            dq, Scores::rows(a, step), Keys::rows(b, step), step > 0);  // dQ = dS K
      wgmma_commit();
      half ^= 1;
    }
    pin(dk);
    pin(doperand);
    wgmma_begin();
    weighted_rows<HS, rows, 2, 4>(dk, doperand, q_tile);  // dK += dSᵀ Q
    wgmma_commit();
    wgmma_wait<1>();
    pin(dv);
    pin(operand);
    if constexpr (adds_queries) {
      add_queries();
      to += Sums::tile;
    } else {
      load_next();  // a step is short, so its copies start one step earlier
    }
    stage = stage + 1 < stages ? stage + 1 : 0;
    q0 += rows;
    if (q0 >= end) {
      q0 = k0;
      if constexpr (adds_queries) to += (schedule.tiles * owned_rows / rows - tiles) * Sums::tile;
    }
  } while (--left > 0);
  wgmma_wait<0>();
  pin(dk);

  const float scale[2] = {p.scale, p.scale}, one[2] = {1, 1};
  store_rows<HS>(dv, one, dqkv + p.value(work.row, work.head), p.qkv_width(), k0 + at.row, p.time);
  turn_back<HS>(p, dk, k0 + at.row);
  store_rows<HS>(dk, scale, dqkv + p.key(work.row, work.head), p.qkv_width(), k0 + at.row, p.time);
}

template <int HS, bool adds_queries>
void launch(cudaStream_t stream, const Problem& p, const __nv_bfloat16* dout, const __nv_bfloat16* qkv,
            const float* lse, const float* delta, __nv_bfloat16* dqkv, float* sums) {
  constexpr int bytes = keys_shared<HS, adds_queries>;
  const Schedule schedule(p, owned_rows, p.kv_heads, adds_queries ? 2 * sizeof(*qkv) : sizeof(*qkv));
  allow_shared_memory<keys_kernel<HS, adds_queries>>(bytes, "flash_attention");
  keys_kernel<HS, adds_queries>
      <<<schedule.blocks(), block_threads, bytes, stream>>>(p, schedule, dout, qkv, lse, delta, dqkv, sums);
  check_launch("flash_attention_backward: keys and values");
}

}  // namespace

void keys_backward(cudaStream_t stream, const Problem& p, const __nv_bfloat16* dout, const __nv_bfloat16* qkv,
                   const float* lse, const float* delta, __nv_bfloat16* dqkv, float* sums) {
  with_head_dim(p.dim, [&]<int HS>() {
    if constexpr (QuerySums<HS>::supported)
      if (sums != nullptr) return launch<HS, true>(stream, p, dout, qkv, lse, delta, dqkv, sums);
    launch<HS, false>(stream, p, dout, qkv, lse, delta, dqkv, nullptr);
  });
}

}  // namespace foretoken::cuda::flash

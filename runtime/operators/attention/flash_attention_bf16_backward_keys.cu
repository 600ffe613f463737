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

/// Layout of a block's shared memory; the members are addresses.
template <int HS, bool adds_queries>
struct Memory {
  using Keys = Tile<HS, owned_rows>;
  using Queries = Tile<HS, rows>;
  static constexpr int score_bytes = adds_queries ? 2 * Scores::bytes : 0;
  static constexpr int bytes = tile_alignment + 2 * Keys::bytes + 2 * stages * Queries::bytes + score_bytes +
                               stages * static_cast<int>(sizeof(Statistics));

  std::uint32_t keys, values;       // K and V of the block
  std::uint32_t queries, douts;     // [stages] Q and dO
  std::uint32_t scores;             // [2] dSᵀ, with adds_queries
  std::uint32_t statistics;         // [stages]
  const Statistics* statistics_at;  // the same address as a pointer

  __device__ explicit Memory(const unsigned char* shared)
      : keys(first_tile(shared)),
        values(keys + Keys::bytes),
        queries(values + Keys::bytes),
        douts(queries + stages * Queries::bytes),
        scores(douts + stages * Queries::bytes),
        statistics(scores + score_bytes),
        statistics_at(reinterpret_cast<const Statistics*>(shared + (statistics - shared_address(shared)))) {}

  __device__ std::uint32_t query_tile(int stage) const { return queries + stage * Queries::bytes; }
  __device__ std::uint32_t dout_tile(int stage) const { return douts + stage * Queries::bytes; }
};

/// Converts this thread's scores to Pᵀ, in place. Rows are keys from k0 on, columns queries from q0 on.
__device__ __forceinline__ void exponentiate(float (&weights)[count], const Problem& p, const Statistics& of,
                                             int k0, int q0, const Place& at) {
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
  const float scale_log2 = p.scale * log2_e;
#pragma unroll
  for (int g = 0; g < rows / 8; ++g) {
    const float2 l = *reinterpret_cast<const float2*>(of.lse + 8 * g + at.column);
#pragma unroll
    for (int r = 0; r < 4; r += 2) {
      weights[4 * g + r] = weight(weights[4 * g + r], scale_log2, l.x * log2_e);
      weights[4 * g + r + 1] = weight(weights[4 * g + r + 1], scale_log2, l.y * log2_e);
    }
  }
}

/// dSᵀ = Pᵀ ∘ (dPᵀ − delta), in place of dPᵀ.
__device__ __forceinline__ void differentiate(float (&dscores)[count], const float (&weights)[count],
                                              const Statistics& of, const Place& at) {
#pragma unroll
  for (int g = 0; g < rows / 8; ++g) {
    const float2 d = *reinterpret_cast<const float2*>(of.delta + 8 * g + at.column);
#pragma unroll
    for (int r = 0; r < 4; r += 2) {
      dscores[4 * g + r] = weights[4 * g + r] * (dscores[4 * g + r] - d.x);
      dscores[4 * g + r + 1] = weights[4 * g + r + 1] * (dscores[4 * g + r + 1] - d.y);
    }
  }
}

/// Starts product [64 × rows] = A Bᵀ. A is the warpgroup's 64 rows of tile a (K or V), B is tile b (Q or dO).
template <int HS>
__device__ __forceinline__ void start_scores(float (&product)[count], std::uint32_t a, int group,
                                             std::uint32_t b) {
  pin(product);
  wgmma_begin();
  row_products<HS, owned_rows, rows>(product, a, group * warpgroup_rows, b);
  wgmma_commit();
}

/// End of the queries that attend to a key of [k0, k0 + owned_rows). These queries are contiguous, because
/// document starts never decrease. All threads of the block call this.
__device__ __forceinline__ int end_of_queries(const Problem& p, int row, int k0) {
  if (p.document_start == nullptr) return p.time;
  int end = k0;
  for (int attending = block_threads; attending == block_threads; end += attending) {
    const int t = end + threadIdx.x;
    attending = __syncthreads_count(t < p.time && p.first_key(row, t) < k0 + owned_rows);
  }
  return end;
}

/// A warpgroup's share of dQ = dS K: a product of dS and half the columns of K, added to global memory.
template <int HS>
struct QueryGradient {
  using Sums = QuerySums<HS>;
  using Keys = Tile<HS, owned_rows>;
  float dq[Sums::count];
  float* to;  // this thread's first four elements of the current tile

  /// Starts the product with dSᵀ in shared memory at `scores`.
  __device__ __forceinline__ void start(std::uint32_t scores, std::uint32_t keys, int group) {
    const std::uint32_t b = keys + Keys::column(group * Sums::columns);
    pin(dq);
    wgmma_begin();
#pragma unroll
    for (int step = 0; step < owned_rows / 16; ++step)
      WgmmaM64K16<Sums::columns>::template multiply<Major::mn, Major::mn>(dq, Scores::rows(scores, step),
                                                                          Keys::rows(b, step), step > 0);
    wgmma_commit();
  }
  /// Adds the complete product to the sums.
  __device__ __forceinline__ void add() {
    pin(dq);
#pragma unroll
    for (int i = 0; i < Sums::count; i += 4)
      add_4(to + i * warpgroup, dq[i], dq[i + 1], dq[i + 2], dq[i + 3]);
  }
};

/// Starts the copies of a stage: the rows of Q and dO of one query head from position q0 on, and their
/// statistics.
template <int HS, bool adds_queries>
__device__ __forceinline__ void load_queries(const Problem& p, const Memory<HS, adds_queries>& memory,
                                             int stage, const BackwardTensors<__nv_bfloat16>& from, int row,
                                             int head, int q0) {
  using Queries = Tile<HS, rows>;
  Queries::load(memory.query_tile(stage), from.qkv + p.query(row, head), p.qkv_width(), q0, p.time);
  Queries::load(memory.dout_tile(stage), from.dout + p.out(row, head), p.out_width(), q0, p.time);
  if (threadIdx.x < rows) {
    const int t = q0 + threadIdx.x, held = min(t, p.time - 1);
    const std::int64_t i = p.statistic(row, head) + held;
    const std::uint32_t to = memory.statistics + stage * sizeof(Statistics) + threadIdx.x * 4;
    // Rows past the end are zeros in Q, dO, lse and delta. P is 1 there and dS is 0, so they add nothing.
    copy_4_async(to + offsetof(Statistics, lse), from.lse + i, t < p.time);
    copy_4_async(to + offsetof(Statistics, delta), from.delta + i, t < p.time);
    if (p.document_start != nullptr)
      copy_4_async(to + offsetof(Statistics, first), p.document_start + row * p.document_stride + held, true);
  }
}

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
    keys_kernel(Problem p, Schedule schedule, BackwardTensors<__nv_bfloat16> tensors,
                float* __restrict__ sums) {
  using Sums = QuerySums<HS>;
  using Keys = Tile<HS, owned_rows>;
  extern __shared__ unsigned char shared[];
  const Memory<HS, adds_queries> memory(shared);
  const Work work = schedule.work(blockIdx.x);
  const int k0 = work.rank * owned_rows, end = end_of_queries(p, work.row, k0);

  const Place at;
  const int group = __shfl_sync(0xffffffff, threadIdx.x / warpgroup, 0);
  const int tiles = (end - k0 + rows - 1) / rows;  // tiles of queries per head

  int load_head = work.head * p.group(), load_q0 = k0, load_stage = 0;
  const int heads_end = load_head + p.group();
  const auto load_next = [&] {
    if (load_head == heads_end) return;
    load_queries(p, memory, load_stage, tensors, work.row, load_head, load_q0);
    load_stage = load_stage + 1 < stages ? load_stage + 1 : 0;
    load_q0 += rows;
    if (load_q0 >= end) {
      load_q0 = k0;
      ++load_head;
    }
  };

  float dk[HS / 2], dv[HS / 2], weights[count], dscores[count];
  std::uint32_t operand[count / 2], doperand[count / 2];
#pragma unroll
  for (int i = 0; i < HS / 2; ++i) dk[i] = dv[i] = 0;

  int left = tiles * p.group(), q0 = k0, stage = 0, half = 0;
  [[maybe_unused]] QueryGradient<HS> gradient;
  if constexpr (adds_queries)
    gradient.to =
        sums +
        (std::int64_t(work.row * p.heads + work.head * p.group()) * schedule.tiles * owned_rows + k0) * HS +
        group * Sums::part + threadIdx.x % warpgroup * 4;
  Keys::load(memory.keys, tensors.qkv + p.key(work.row, work.head), p.qkv_width(), k0, p.time);
  Keys::load(memory.values, tensors.qkv + p.value(work.row, work.head), p.qkv_width(), k0, p.time);
  load_next();
  finish_copies();
  __syncthreads();
  if constexpr (!adds_queries) load_next();

  // Every block has at least one step. In a loop that might run zero times, the compiler would wait for the
  // product of dK in each step.
  do {
    const std::uint32_t q_tile = memory.query_tile(stage);
    const std::uint32_t dout_tile = memory.dout_tile(stage);
    const Statistics& of = memory.statistics_at[stage];

    start_scores<HS>(weights, memory.keys, group, q_tile);
    start_scores<HS>(dscores, memory.values, group, dout_tile);
    if constexpr (adds_queries) load_next();
    wgmma_wait<1>();
    pin(weights);
    pin(dk);
    pin(doperand);
    exponentiate(weights, p, of, k0, q0, at);
    pack(weights, operand);

    start_weighted_rows<HS, rows>(dv, operand, dout_tile);  // dV += Pᵀ dO
    wgmma_wait<1>();
    pin(dscores);
    differentiate(dscores, weights, of, at);
    pack(dscores, doperand);

    start_weighted_rows<HS, rows, 0, 2>(dk, doperand, q_tile);  // dK += dSᵀ Q, first half of the queries
    if constexpr (adds_queries) store_operand<Scores>(memory.scores + half * Scores::bytes, doperand);
    finish_copies();
    // Publishes dSᵀ and the next queries. No thread reads the previous step's queries any more.
    __syncthreads();
    if constexpr (adds_queries) {
      gradient.start(memory.scores + half * Scores::bytes, memory.keys, group);  // dQ = dS K
      half ^= 1;
    }
    start_weighted_rows<HS, rows, 2, 4>(dk, doperand, q_tile);  // dK += dSᵀ Q, second half of the queries
    wgmma_wait<1>();
    pin(dv);
    pin(operand);
    if constexpr (adds_queries) {
      gradient.add();
      gradient.to += Sums::tile;
    } else {
      load_next();  // a step without dQ is short: the next copies start before the next products
    }
    stage = stage + 1 < stages ? stage + 1 : 0;
    q0 += rows;
    if (q0 >= end) {
      q0 = k0;
      if constexpr (adds_queries) gradient.to += (schedule.tiles * owned_rows / rows - tiles) * Sums::tile;
    }
  } while (--left > 0);
  wgmma_wait<0>();
  pin(dk);

  const float scale[2] = {p.scale, p.scale}, one[2] = {1, 1};
  store_rows<HS>(dv, one, tensors.dqkv + p.value(work.row, work.head), p.qkv_width(), k0 + at.row, p.time);
  rotate_back<HS>(p, dk, k0 + at.row);
  store_rows<HS>(dk, scale, tensors.dqkv + p.key(work.row, work.head), p.qkv_width(), k0 + at.row, p.time);
}

template <int HS, bool adds_queries>
void launch(cudaStream_t stream, const Problem& p, const BackwardTensors<__nv_bfloat16>& tensors,
            float* sums) {
  constexpr int bytes = Memory<HS, adds_queries>::bytes;
  const Schedule schedule(p, owned_rows, p.kv_heads, (adds_queries ? 2 : 1) * sizeof(__nv_bfloat16));
  allow_shared_memory<keys_kernel<HS, adds_queries>>(bytes, "flash_attention");
  keys_kernel<HS, adds_queries>
      <<<schedule.blocks(), block_threads, bytes, stream>>>(p, schedule, tensors, sums);
  check_launch("flash_attention_backward: keys and values");
}

}  // namespace

void keys_backward(cudaStream_t stream, const Problem& p, const BackwardTensors<__nv_bfloat16>& tensors,
                   float* sums) {
  with_head_dim(p.dim, [&]<int HS>() {
    if constexpr (QuerySums<HS>::supported)
      if (sums != nullptr) return launch<HS, true>(stream, p, tensors, sums);
    launch<HS, false>(stream, p, tensors, nullptr);
  });
}

}  // namespace foretoken::cuda::flash

#include <bit>

#include "runtime/cuda/device.cuh"
#include "runtime/operators/attention/flash_attention_generic.cuh"

namespace foretoken::cuda::flash {

namespace {

/// delta = rowsum(dO ∘ O). `lanes` neighbouring threads own one row of one head; each reads N elements at
/// once.
template <class T, int N>
__global__ void output_dot_kernel(Problem p, int lanes, const T* __restrict__ dout, const T* __restrict__ out,
                                  float* __restrict__ delta) {
  const std::int64_t thread = std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t i = thread / lanes;  // (b·T + t)·NH + h
  const bool held = i < std::int64_t(p.rows) * p.time * p.heads;
  float sum = 0;
  for (int c = int(thread % lanes) * N; held && c < p.dim; c += lanes * N) {
    const Pack<T, N> d = load<N>(dout + i * p.dim + c), o = load<N>(out + i * p.dim + c);
#pragma unroll
    for (int j = 0; j < N; ++j) sum = fmaf(value_of(d.at[j]), value_of(o.at[j]), sum);
  }
  for (int other = lanes / 2; other > 0; other /= 2) sum += __shfl_xor_sync(0xffffffff, sum, other);
  const int head = static_cast<int>(i % p.heads);
  const int row = static_cast<int>(i / p.heads / p.time), t = static_cast<int>(i / p.heads % p.time);
  if (held && thread % lanes == 0) delta[p.statistic(row, head) + t] = sum;
}

/// The statistics of the queries, [B, NH, T].
struct Statistics {
  const float *lse, *delta;
};

/// A tile of queries from position q0 on and a tile of keys from position k0 on, of one query head of one
/// batch row. The pointers are tiles in shared memory.
struct TilePair {
  int row, head, q0, k0;
  const float *q, *dout, *k, *v;
};

/// The thread's elements of P and dS / √HS for a pair of tiles.
template <int W>
struct Recomputed {
  typename GenericTile<W>::Scores weights, dscores;

  __device__ __forceinline__ Recomputed(const Problem& p, const GenericTile<W>& at, const TilePair& tiles,
                                        const Statistics& statistics) {
    at.row_products(weights, tiles.q, tiles.k);
    at.row_products(dscores, tiles.dout, tiles.v);
#pragma unroll
    for (int i = 0; i < GenericTile<W>::own_rows; ++i) {
      const int t = tiles.q0 + at.row(i), first = p.first_key(tiles.row, t);
      const std::int64_t query = p.statistic(tiles.row, tiles.head) + min(t, p.time - 1);
      const float lse = statistics.lse[query], delta = statistics.delta[query];
#pragma unroll
      for (int j = 0; j < GenericTile<W>::own_rows; ++j) {
        const int u = tiles.k0 + at.column(j);
        const bool attends = t < p.time && u <= t && u >= first;
        weights[i][j] = attends ? expf(weights[i][j] * p.scale - lse) : 0.0f;
        dscores[i][j] = weights[i][j] * (dscores[i][j] - delta) * p.scale;
      }
    }
  }
};

/// dV = Pᵀ dO and dK = dSᵀ Q / √HS. A block owns a tile of keys of one key/value head and processes the tiles
/// of queries that attend to any of them, one query head after another, so dK and dV have one writer. Shared
/// memory: one tile each of K, V, Q and dO, and P and dS of a tile.
template <class T, int W>
__global__ void __launch_bounds__(generic_threads, 1)
    generic_keys_kernel(Problem p, Schedule schedule, const T* __restrict__ dout, const T* __restrict__ qkv,
                        const float* __restrict__ lse, const float* __restrict__ delta,
                        T* __restrict__ dqkv) {
  using P = GenericTile<W>;
  const P at;
  extern __shared__ float generic_shared[];
  float *k = generic_shared, *v = k + P::tile, *q = v + P::tile, *d = q + P::tile;
  float *weights = d + P::tile, *dscores = weights + P::scores;
  const Work work = schedule.work(blockIdx.x);
  const int k0 = work.rank * P::rows;

  P::load(k, qkv + p.key(work.row, work.head), p.qkv_width(), p.dim, k0, p.time);
  P::load(v, qkv + p.value(work.row, work.head), p.qkv_width(), p.dim, k0, p.time);
  typename P::Rows dk = {}, dv = {};
  for (int head = work.head * p.group(); head < (work.head + 1) * p.group(); ++head) {
    // Document starts never decrease: after the first tile whose queries attend to no key of the block, no
    // later tile does.
    for (int q0 = k0; q0 < p.time && p.first_key(work.row, q0) < k0 + P::rows; q0 += P::rows) {
      __syncthreads();  // all threads have read the previous tile's queries
      P::load(q, qkv + p.query(work.row, head), p.qkv_width(), p.dim, q0, p.time);
      P::load(d, dout + p.out(work.row, head), p.out_width(), p.dim, q0, p.time);
      __syncthreads();
      const TilePair tiles{
          .row = work.row, .head = head, .q0 = q0, .k0 = k0, .q = q, .dout = d, .k = k, .v = v};
      const Recomputed<W> scores(p, at, tiles, {.lse = lse, .delta = delta});
      at.keep_scores(weights, scores.weights);
      at.keep_scores(dscores, scores.dscores);
      __syncthreads();
      at.template weighted_rows<true>(dv, weights, d);
      at.template weighted_rows<true>(dk, dscores, q);
    }
  }
  float one[P::own_rows];
#pragma unroll
  for (float& o : one) o = 1;
  at.store(dqkv + p.key(work.row, work.head), p.qkv_width(), p.dim, k0, p.time, dk, one);
  at.store(dqkv + p.value(work.row, work.head), p.qkv_width(), p.dim, k0, p.time, dv, one);
}

/// dQ = dS K / √HS. A block owns a tile of queries of one head and processes the key tiles that they attend
/// to. Shared memory: one tile each of Q, dO, K and V, and dS of a tile.
template <class T, int W>
__global__ void __launch_bounds__(generic_threads, 1)
    generic_queries_kernel(Problem p, Schedule schedule, const T* __restrict__ dout,
                           const T* __restrict__ qkv, const float* __restrict__ lse,
                           const float* __restrict__ delta, T* __restrict__ dqkv) {
  using P = GenericTile<W>;
  const P at;
  extern __shared__ float generic_shared[];
  float *q = generic_shared, *d = q + P::tile, *k = d + P::tile, *v = k + P::tile, *dscores = v + P::tile;
  const Work work = schedule.work(blockIdx.x);
  const int q0 = (schedule.tiles - 1 - work.rank) * P::rows;
  const int kv_head = work.head / p.group();

  P::load(q, qkv + p.query(work.row, work.head), p.qkv_width(), p.dim, q0, p.time);
  P::load(d, dout + p.out(work.row, work.head), p.out_width(), p.dim, q0, p.time);
  typename P::Rows dq = {};
  for (int k0 = p.first_key(work.row, q0) / P::rows * P::rows; k0 <= q0; k0 += P::rows) {
    __syncthreads();  // all threads have read the previous tile's keys
    P::load(k, qkv + p.key(work.row, kv_head), p.qkv_width(), p.dim, k0, p.time);
    P::load(v, qkv + p.value(work.row, kv_head), p.qkv_width(), p.dim, k0, p.time);
    __syncthreads();
    const TilePair tiles{
        .row = work.row, .head = work.head, .q0 = q0, .k0 = k0, .q = q, .dout = d, .k = k, .v = v};
    const Recomputed<W> scores(p, at, tiles, {.lse = lse, .delta = delta});
    at.keep_scores(dscores, scores.dscores);
    __syncwarp();  // a warp reads only the rows of dscores that it wrote
    at.template weighted_rows<false>(dq, dscores, k);
  }
  float one[P::own_rows];
#pragma unroll
  for (float& o : one) o = 1;
  at.store(dqkv + p.query(work.row, work.head), p.qkv_width(), p.dim, q0, p.time, dq, one);
}

}  // namespace

template <class T>
void output_dot(cudaStream_t stream, const Problem& p, const T* dout, const T* out, float* delta) {
  constexpr int threads = 256;
  const auto launch = [&]<int N>() {
    const int lanes = std::min(32, static_cast<int>(std::bit_ceil(static_cast<unsigned>(p.dim / N))));
    const unsigned blocks = blocks_for(std::int64_t(p.rows) * p.time * p.heads * lanes, threads);
    output_dot_kernel<T, N><<<blocks, threads, 0, stream>>>(p, lanes, dout, out, delta);
    check_launch("flash_attention_backward: output dot");
  };
  if (packs<lane_elements<T>>(p.dim, dout, out))
    launch.template operator()<lane_elements<T>>();
  else
    launch.template operator()<1>();
}

template <class T>
void backward_generic(cudaStream_t stream, const Problem& p, const BackwardTensors<T>& t) {
  with_width(p.dim, [&]<int W>() {
    constexpr int bytes =
        (4 * GenericTile<W>::tile + 2 * GenericTile<W>::scores) * static_cast<int>(sizeof(float));
    const Schedule by_keys(p, GenericTile<W>::rows, p.kv_heads, sizeof(T));
    allow_shared_memory<generic_keys_kernel<T, W>>(bytes, "flash_attention");
    generic_keys_kernel<T, W><<<by_keys.blocks(), generic_threads, bytes, stream>>>(p, by_keys, t.dout, t.qkv,
                                                                                    t.lse, t.delta, t.dqkv);
    check_launch("flash_attention_backward: generic keys and values");

    const Schedule by_queries(p, GenericTile<W>::rows, p.heads, sizeof(T));
    allow_shared_memory<generic_queries_kernel<T, W>>(bytes, "flash_attention");
    generic_queries_kernel<T, W><<<by_queries.blocks(), generic_threads, bytes, stream>>>(
        p, by_queries, t.dout, t.qkv, t.lse, t.delta, t.dqkv);
    check_launch("flash_attention_backward: generic queries");
  });
}

template void output_dot(cudaStream_t, const Problem&, const float*, const float*, float*);
template void output_dot(cudaStream_t, const Problem&, const __nv_bfloat16*, const __nv_bfloat16*, float*);
template void backward_generic(cudaStream_t, const Problem&, const BackwardTensors<float>&);
template void backward_generic(cudaStream_t, const Problem&, const BackwardTensors<__nv_bfloat16>&);

}  // namespace foretoken::cuda::flash

#include "runtime/operators/attention/flash_attention_generic.cuh"

namespace foretoken::cuda::flash {

namespace {

/// out = softmax(Q Kᵀ / √HS) V and lse of each query head, for problems that the tensor-core kernels do not
/// support. A block owns a tile of queries of one head and processes the key tiles that they attend to, from
/// the diagonal back, with an online softmax. Shared memory: one tile each of Q, K and V, and the weights of
/// a tile. A thread owns own_rows × own_columns elements of out.
template <class T, int W>
__global__ void __launch_bounds__(generic_threads, 1)
    generic_forward_kernel(Problem p, Schedule schedule, const T* __restrict__ qkv, T* __restrict__ out,
                           float* __restrict__ lse) {
  using P = GenericTile<W>;
  const P at;
  extern __shared__ float generic_shared[];
  float *q = generic_shared, *k = q + P::tile, *v = k + P::tile, *weights = v + P::tile;
  const Work work = schedule.work(blockIdx.x);
  const int q0 = (schedule.tiles - 1 - work.rank) * P::rows;
  const int kv_head = work.head / p.group();

  typename P::Rows result = {};
  float largest[P::own_rows], sum[P::own_rows];
  int first[P::own_rows];
#pragma unroll
  for (int i = 0; i < P::own_rows; ++i) {
    largest[i] = -INFINITY;
    sum[i] = 0;
    first[i] = p.first_key(work.row, q0 + at.row(i));
  }
  P::load(q, qkv + p.query(work.row, work.head), p.qkv_width(), p.dim, q0, p.time);
  const int first_tile_of_keys = p.first_key(work.row, q0) / P::rows;
  for (int tile = q0 / P::rows; tile >= first_tile_of_keys; --tile) {
    const int k0 = tile * P::rows;
    __syncthreads();  // all threads have read the previous tile's values
    P::load(k, qkv + p.key(work.row, kv_head), p.qkv_width(), p.dim, k0, p.time);
    P::load(v, qkv + p.value(work.row, kv_head), p.qkv_width(), p.dim, k0, p.time);
    __syncthreads();
    typename P::Scores s;
    at.row_products(s, q, k);
#pragma unroll
    for (int i = 0; i < P::own_rows; ++i) {
      float top = largest[i];
#pragma unroll
      for (int j = 0; j < P::own_rows; ++j) {
        const int u = k0 + at.column(j);
        s[i][j] = u > q0 + at.row(i) || u < first[i] ? -INFINITY : s[i][j] * p.scale;
        top = fmaxf(top, s[i][j]);
      }
      // A row of scores is spread over the 16 threads of one y, half a warp.
#pragma unroll
      for (int other = side / 2; other > 0; other /= 2)
        top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, other));
      const float rescale = expf(largest[i] - top);
      largest[i] = top;
      float total = 0;
#pragma unroll
      for (int j = 0; j < P::own_rows; ++j) total += s[i][j] = expf(s[i][j] - top);
      sum[i] = sum[i] * rescale + total;
#pragma unroll
      for (int j = 0; j < P::own_columns; ++j) result[i][j] *= rescale;
    }
    at.keep_scores(weights, s);
    __syncwarp();  // a warp reads only the rows of weights that it wrote
    at.template weighted_rows<false>(result, weights, v);
  }

  float inverse[P::own_rows];
#pragma unroll
  for (int i = 0; i < P::own_rows; ++i) {
#pragma unroll
    for (int other = side / 2; other > 0; other /= 2) sum[i] += __shfl_xor_sync(0xffffffff, sum[i], other);
    inverse[i] = 1 / sum[i];
    const int t = q0 + at.row(i);
    if (at.x == 0 && t < p.time) lse[p.statistic(work.row, work.head) + t] = largest[i] + logf(sum[i]);
  }
  at.store(out + p.out(work.row, work.head), p.out_width(), p.dim, q0, p.time, result, inverse);
}

}  // namespace

template <class T>
void forward_generic(cudaStream_t stream, const Problem& p, const T* qkv, T* out, float* lse) {
  with_width(p.dim, [&]<int W>() {
    constexpr int bytes =
        (3 * GenericTile<W>::tile + GenericTile<W>::scores) * static_cast<int>(sizeof(float));
    const Schedule schedule(p, GenericTile<W>::rows, p.heads, sizeof(T));
    allow_shared_memory<generic_forward_kernel<T, W>>(bytes, "flash_attention");
    generic_forward_kernel<T, W>
        <<<schedule.blocks(), generic_threads, bytes, stream>>>(p, schedule, qkv, out, lse);
    check_launch("flash_attention_forward: generic");
  });
}

template void forward_generic(cudaStream_t, const Problem&, const float*, float*, float*);
template void forward_generic(cudaStream_t, const Problem&, const __nv_bfloat16*, __nv_bfloat16*, float*);

}  // namespace foretoken::cuda::flash

#include <algorithm>

#include "runtime/cuda/context.h"
#include "runtime/cuda/overlap.cuh"
#include "runtime/cuda/reduce.cuh"
#include "runtime/operators/rowwise/rms_norm.h"

namespace foretoken::cuda {

namespace {

/// Sums each of R values over the block with two barriers in all. Every thread receives the sums.
template <int R>
__device__ void block_sums(float (&x)[R], float (*shared)[32]) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
#pragma unroll
  for (int r = 0; r < R; ++r) {
    x[r] = warp_sum(x[r]);
    if (lane == 0) shared[r][warp] = x[r];
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < R; ++r) x[r] = warp_sum(lane < warps ? shared[r][lane] : 0.0F);
  __syncthreads();
}

struct Rows {
  std::int64_t n, c, stride;  // N, C, and the elements between rows of out (forward) or dout (backward)
};

/// out = x · rstd · w, rstd = 1 / √(mean(x²) + eps). A block owns R rows. A thread owns the same P packs of N
/// columns in each row and keeps them in registers between the sum of squares and the scaling, so that memory
/// is read once. Shared memory: each warp's sum of squares by row.
template <class T, int N, int P, int R, int Threads>
__global__ void __launch_bounds__(Threads)
    forward(const T* x, const T* weight, T* out, float* rstd, float* amax, Rows rows, float eps) {
  __shared__ float shared[R][32];
  launch_dependents();
  wait_for_earlier_work();
  const std::int64_t row0 = static_cast<std::int64_t>(blockIdx.x) * R;
  Pack<T, N> in[R][P];
  float squares[R] = {};
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const std::int64_t column = static_cast<std::int64_t>(p * blockDim.x + threadIdx.x) * N;
      if (row0 + r >= rows.n || column >= rows.c) continue;
      in[r][p] = load<N>(x + (row0 + r) * rows.c + column);
#pragma unroll
      for (int j = 0; j < N; ++j) squares[r] += to_float(in[r][p].at[j]) * to_float(in[r][p].at[j]);
    }
  block_sums(squares, shared);
  float largest = 0;
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const float scale = rsqrtf(squares[r] / static_cast<float>(rows.c) + eps);
    if (row0 + r < rows.n && threadIdx.x == 0) rstd[row0 + r] = scale;
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const std::int64_t column = static_cast<std::int64_t>(p * blockDim.x + threadIdx.x) * N;
      if (row0 + r >= rows.n || column >= rows.c) continue;
      const Pack<T, N> w = load<N>(weight + column);
      Pack<T, N> result;
#pragma unroll
      for (int j = 0; j < N; ++j) {
        result.at[j] = from_float<T>(to_float(in[r][p].at[j]) * scale * to_float(w.at[j]));
        largest = fmaxf(largest, fabsf(to_float(result.at[j])));
      }
      store<N>(out + (row0 + r) * rows.stride + column, result);
    }
  }
  if (amax) raise_amax(amax, largest);
}

/// The inputs of backward in a thread's columns of one row. Columns past C are zeros.
template <class T, int N, int P>
struct RowInputs {
  Pack<T, N> x[P], dout[P], residual[P];
  float rstd;
};

struct Backward {
  const void *dout, *x, *weight, *residual;  // residual may be null
  const float* rstd;
  void *dx, *normed;  // normed may be null
  float* partial;     // [blocks, C]
  float* amax;        // largest magnitude of dx; may be null
  Rows rows;
};

template <class T, int N, int P>
__device__ RowInputs<T, N, P> read_row(const Backward& op, std::int64_t row) {
  RowInputs<T, N, P> in{};
  in.rstd = op.rstd[row];
#pragma unroll
  for (int p = 0; p < P; ++p) {
    const std::int64_t column = static_cast<std::int64_t>(p * blockDim.x + threadIdx.x) * N;
    if (column >= op.rows.c) continue;
    in.x[p] = load<N>(static_cast<const T*>(op.x) + row * op.rows.c + column);
    in.dout[p] = load<N>(static_cast<const T*>(op.dout) + row * op.rows.stride + column);
    if (op.residual) in.residual[p] = load<N>(static_cast<const T*>(op.residual) + row * op.rows.c + column);
  }
  return in;
}

/// dx = rstd · (w·dout − x · rstd² · mean(w·dout·x)) (+ residual), and the block's part of dw = Σ dout · x ·
/// rstd.
///
/// A block processes every gridDim-th row. A thread owns the same columns in each row, so it keeps their sums
/// for dw in registers and writes them to partial[block, c] at the end; add_rows() adds the parts in a fixed
/// order. If the registers suffice (P is 1), the next row is read while the current one is processed. Shared
/// memory: each warp's part of the mean. residual, dx and dout may alias: only one block reads a row, and it
/// reads it before it writes it.
template <class T, int N, int P, int Threads>
__global__ void __launch_bounds__(Threads, 1024 / Threads) backward(const Backward op) {
  __shared__ float shared[2][32];
  constexpr bool read_ahead = P == 1;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  float dweight[P][N] = {};
  RowInputs<T, N, P> next;
  if (read_ahead) next = read_row<T, N, P>(op, blockIdx.x);
  float largest = 0;
  int phase = 0;  // which of the two shared buffers is in use; with two buffers, one barrier per row suffices
  for (std::int64_t row = blockIdx.x; row < op.rows.n; row += gridDim.x, phase ^= 1) {
    const RowInputs<T, N, P> in = read_ahead ? next : read_row<T, N, P>(op, row);
    if (read_ahead && row + gridDim.x < op.rows.n) next = read_row<T, N, P>(op, row + gridDim.x);
    float dot = 0;
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const std::int64_t column = static_cast<std::int64_t>(p * blockDim.x + threadIdx.x) * N;
      if (column >= op.rows.c) continue;
      const Pack<T, N> w = load<N>(static_cast<const T*>(op.weight) + column);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        const float product = to_float(in.dout[p].at[j]) * to_float(in.x[p].at[j]);
        dot += to_float(w.at[j]) * product;
        dweight[p][j] += product * in.rstd;
      }
    }
    dot = warp_sum(dot);
    if (lane == 0) shared[phase][warp] = dot;
    __syncthreads();
    dot = warp_sum(lane < warps ? shared[phase][lane] : 0.0F);
    const float shift = dot / static_cast<float>(op.rows.c) * in.rstd * in.rstd * in.rstd;
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const std::int64_t column = static_cast<std::int64_t>(p * blockDim.x + threadIdx.x) * N;
      if (column >= op.rows.c) continue;
      const Pack<T, N> w = load<N>(static_cast<const T*>(op.weight) + column);
      Pack<T, N> dx, again;
#pragma unroll
      for (int j = 0; j < N; ++j) {
        const float scaled = in.rstd * to_float(w.at[j]), value = to_float(in.x[p].at[j]);
        // out = x · rstd · w, where rstd is also a function of x
        dx.at[j] = from_float<T>(scaled * to_float(in.dout[p].at[j]) - shift * value +
                                 to_float(in.residual[p].at[j]));
        again.at[j] = from_float<T>(value * scaled);
        largest = fmaxf(largest, fabsf(to_float(dx.at[j])));
      }
      store<N>(static_cast<T*>(op.dx) + row * op.rows.c + column, dx);
      if (op.normed) store<N>(static_cast<T*>(op.normed) + row * op.rows.c + column, again);
    }
  }
  if (op.amax) raise_amax(op.amax, largest);
#pragma unroll
  for (int p = 0; p < P; ++p) {
    const std::int64_t column = static_cast<std::int64_t>(p * blockDim.x + threadIdx.x) * N;
    if (column >= op.rows.c) continue;
#pragma unroll
    for (int j = 0; j < N; ++j)
      op.partial[static_cast<std::int64_t>(blockIdx.x) * op.rows.c + column + j] = dweight[p][j];
  }
}

/// Calls launch.operator()<N, P, R, Threads>(threads) with the fewest packs per thread that cover C columns.
/// Short rows are processed in pairs (forward) by blocks of at most 256 threads, of which several share a
/// multiprocessor, so that enough reads are in flight.
template <class T, class Launch>
void with_packs(std::int64_t c, bool aligned, const Launch& launch) {
  constexpr int n = lane_elements<T>;
  const auto threads = [&](std::int64_t elements) {
    return static_cast<unsigned>((c + elements * 32 - 1) / (elements * 32) * 32);
  };
  if (aligned && c <= 256 * n) return launch.template operator()<n, 1, 2, 256>(threads(n));
  if (aligned && c <= 1024 * n) return launch.template operator()<n, 1, 1, 1024>(threads(n));
  if (aligned && c <= 4096 * n) return launch.template operator()<n, 4, 1, 1024>(threads(4 * n));
  if (c <= 1024 * 16) return launch.template operator()<1, 16, 1, 1024>(threads(16));
  check(cudaErrorInvalidValue, "rms_norm: rows of more than 16384 that do not come in 16-byte packs");
}

/// Sets amax to zero, because kernels only raise it, and returns its address; null if it is not requested.
float* cleared(Context& gpu, const Tensor& amax) {
  if (!amax.defined()) return nullptr;
  check(cudaMemsetAsync(amax.data, 0, sizeof(float), gpu.stream()), "rms_norm");
  return amax.as<float>();
}

}  // namespace

void rms_norm_forward(Stream& stream, const RmsNormForward& op) {
  Rows rows{.n = op.rstd.elements(), .c = op.weight.elements()};
  if (rows.n == 0) return;
  rows.stride = op.out.matrix.elements() / rows.n;
  float* amax = cleared(stream.cuda(), op.amax);
  with_activation("rms_norm_forward", op.x.dtype, [&]<class T>() {
    const T *x = static_cast<const T*>(op.x.data), *w = static_cast<const T*>(op.weight.data);
    T* out = static_cast<T*>(op.out.matrix.data) + op.out.first;
    constexpr int n = lane_elements<T>;
    with_packs<T>(rows.c, packs<n>(rows.c, x, w, out) && rows.stride % n == 0,
                  [&]<int N, int P, int R, int Threads>(unsigned threads) {
                    launch_overlapped(
                        stream.cuda().stream(), forward<T, N, P, R, Threads>,
                        {.grid = dim3(blocks_for(rows.n, R)), .threads = static_cast<int>(threads)}, x, w,
                        out, op.rstd.as<float>(), amax, rows, static_cast<float>(op.eps));
                  });
  });
}

void rms_norm_backward(Stream& stream, const RmsNormBackward& op) {
  Rows rows{.n = op.rstd.elements(), .c = op.weight.elements()};
  if (rows.n == 0) return;
  rows.stride = op.dout.matrix.elements() / rows.n;
  Context& gpu = stream.cuda();
  float* amax = cleared(gpu, op.amax);
  const std::int64_t blocks = std::min<std::int64_t>(rows.n, 4 * gpu.multiprocessors());
  auto* partial =
      static_cast<float*>(gpu.workspace(static_cast<std::size_t>(blocks * rows.c) * sizeof(float)));
  with_activation("rms_norm_backward", op.x.dtype, [&]<class T>() {
    const T* dout = static_cast<const T*>(op.dout.matrix.data) + op.dout.first;
    constexpr int n = lane_elements<T>;
    const bool aligned =
        packs<n>(rows.c, static_cast<const T*>(op.x.data), static_cast<const T*>(op.weight.data), dout,
                 static_cast<const T*>(op.residual.data), static_cast<const T*>(op.dx.data),
                 static_cast<const T*>(op.out.data)) &&
        rows.stride % n == 0;
    with_packs<T>(rows.c, aligned, [&]<int N, int P, int R, int Threads>(unsigned threads) {
      backward<T, N, P, Threads>
          <<<static_cast<unsigned>(blocks), threads, 0, gpu.stream()>>>({.dout = dout,
                                                                         .x = op.x.data,
                                                                         .weight = op.weight.data,
                                                                         .residual = op.residual.data,
                                                                         .rstd = op.rstd.as<float>(),
                                                                         .dx = op.dx.data,
                                                                         .normed = op.out.data,
                                                                         .partial = partial,
                                                                         .amax = amax,
                                                                         .rows = rows});
    });
  });
  if (op.dweight.defined())
    add_rows<<<blocks_for(rows.c, 32), dim3(32, 32), 0, gpu.stream()>>>(partial, blocks, rows.c,
                                                                        op.dweight.as<float>());
  check_launch("rms_norm_backward");
}

}  // namespace foretoken::cuda

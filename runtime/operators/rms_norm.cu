#include <algorithm>

#include "runtime/cuda/context.h"
#include "runtime/cuda/reduce.cuh"
#include "runtime/operators/rms_norm.h"

namespace foretoken::cuda {

namespace {

/// Sums R values over the block at once; every thread gets them.
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
  std::int64_t n, c, stride;  // stride of `out` in forward, of `dout` in backward
};

/// A block owns R rows, a thread the same P packs of N columns of each, held in registers between the two
/// passes over them, so that memory is read once.
template <class T, int N, int P, int R, int Threads>
__global__ void __launch_bounds__(Threads)
    forward(const T* __restrict__ x, const T* __restrict__ weight, T* __restrict__ out,
            float* __restrict__ rstd, Rows rows, float eps) {
  __shared__ float shared[R][32];
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
      for (int j = 0; j < N; ++j)
        result.at[j] = from_float<T>(to_float(in[r][p].at[j]) * scale * to_float(w.at[j]));
      store<N>(out + (row0 + r) * rows.stride + column, result);
    }
  }
}

/// As forward, but a block goes on to further rows, so that it can keep the sums for dweight in registers:
/// partial[block, c] = Σ dout · x · rstd over its rows. residual, dx and dout may be the same memory: a
/// thread reads its columns of R rows before it writes them.
template <class T, int N, int P, int R, int Threads>
__global__ void __launch_bounds__(Threads, 1024 / Threads)
    backward(const T* dout, const T* __restrict__ x, const T* __restrict__ weight,
             const float* __restrict__ rstd, const T* residual, T* dx, T* normed, float* __restrict__ partial,
             Rows rows) {
  __shared__ float shared[R][32];
  float dweight[P][N] = {};
  for (std::int64_t row0 = static_cast<std::int64_t>(blockIdx.x) * R; row0 < rows.n;
       row0 += static_cast<std::int64_t>(gridDim.x) * R) {
    Pack<T, N> in[R][P], d[R][P], along[R][P];
    float scale[R], dot[R] = {};
#pragma unroll
    for (int r = 0; r < R; ++r) {
      scale[r] = row0 + r < rows.n ? rstd[row0 + r] : 0.0F;
#pragma unroll
      for (int p = 0; p < P; ++p) {
        const std::int64_t column = static_cast<std::int64_t>(p * blockDim.x + threadIdx.x) * N;
        if (row0 + r >= rows.n || column >= rows.c) continue;
        in[r][p] = load<N>(x + (row0 + r) * rows.c + column);
        d[r][p] = load<N>(dout + (row0 + r) * rows.stride + column);
        if (residual) along[r][p] = load<N>(residual + (row0 + r) * rows.c + column);
      }
    }
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const std::int64_t column = static_cast<std::int64_t>(p * blockDim.x + threadIdx.x) * N;
      if (column >= rows.c) continue;
      const Pack<T, N> w = load<N>(weight + column);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        if (row0 + r >= rows.n) continue;
#pragma unroll
        for (int j = 0; j < N; ++j) {
          const float product = to_float(d[r][p].at[j]) * to_float(in[r][p].at[j]);
          dot[r] += to_float(w.at[j]) * product;
          dweight[p][j] += product * scale[r];
        }
      }
    }
    block_sums(dot, shared);
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const std::int64_t column = static_cast<std::int64_t>(p * blockDim.x + threadIdx.x) * N;
      if (column >= rows.c) continue;
      const Pack<T, N> w = load<N>(weight + column);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        if (row0 + r >= rows.n) continue;
        const float shift = dot[r] / static_cast<float>(rows.c) * scale[r] * scale[r] * scale[r];
        Pack<T, N> result, again;
#pragma unroll
        for (int j = 0; j < N; ++j) {
          const float value = to_float(in[r][p].at[j]), w_j = to_float(w.at[j]);
          // out = x · rstd · w, where rstd depends on x as well
          float gradient = scale[r] * w_j * to_float(d[r][p].at[j]) - shift * value;
          if (residual) gradient += to_float(along[r][p].at[j]);
          result.at[j] = from_float<T>(gradient);
          again.at[j] = from_float<T>(value * scale[r] * w_j);
        }
        store<N>(dx + (row0 + r) * rows.c + column, result);
        if (normed) store<N>(normed + (row0 + r) * rows.c + column, again);
      }
    }
  }
#pragma unroll
  for (int p = 0; p < P; ++p) {
    const std::int64_t column = static_cast<std::int64_t>(p * blockDim.x + threadIdx.x) * N;
    if (column >= rows.c) continue;
#pragma unroll
    for (int j = 0; j < N; ++j)
      partial[static_cast<std::int64_t>(blockIdx.x) * rows.c + column + j] = dweight[p][j];
  }
}

/// Calls launch.operator()<N, P, R, Threads>(threads) with the fewest packs a thread that cover C columns.
/// Two rows at a time, in blocks of which four share a multiprocessor, keep enough reads in flight.
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

}  // namespace

void rms_norm_forward(Stream& stream, const RmsNormForward& op) {
  Rows rows{.n = op.rstd.elements(), .c = op.weight.elements()};
  if (rows.n == 0) return;
  rows.stride = op.out.matrix.elements() / rows.n;
  with_activation("rms_norm_forward", op.x.dtype, [&]<class T>() {
    const T *x = static_cast<const T*>(op.x.data), *w = static_cast<const T*>(op.weight.data);
    T* out = static_cast<T*>(op.out.matrix.data) + op.out.first;
    constexpr int n = lane_elements<T>;
    with_packs<T>(rows.c, packs<n>(rows.c, x, w, out) && rows.stride % n == 0,
                  [&]<int N, int P, int R, int Threads>(unsigned threads) {
                    forward<T, N, P, R, Threads>
                        <<<blocks_for(rows.n, R), threads, 0, stream.cuda().stream()>>>(
                            x, w, out, op.rstd.as<float>(), rows, static_cast<float>(op.eps));
                  });
  });
  check_launch("rms_norm_forward");
}

void rms_norm_backward(Stream& stream, const RmsNormBackward& op) {
  Rows rows{.n = op.rstd.elements(), .c = op.weight.elements()};
  if (rows.n == 0) return;
  rows.stride = op.dout.matrix.elements() / rows.n;
  Context& gpu = stream.cuda();
  const std::int64_t most = 4 * gpu.multiprocessors();  // blocks, of which all run at once
  auto* partial = static_cast<float*>(gpu.workspace(static_cast<std::size_t>(most * rows.c) * sizeof(float)));
  with_activation("rms_norm_backward", op.x.dtype, [&]<class T>() {
    const T *x = static_cast<const T*>(op.x.data), *w = static_cast<const T*>(op.weight.data);
    const T* dout = static_cast<const T*>(op.dout.matrix.data) + op.dout.first;
    const T* residual = static_cast<const T*>(op.residual.data);
    T *dx = static_cast<T*>(op.dx.data), *normed = static_cast<T*>(op.out.data);
    constexpr int n = lane_elements<T>;
    with_packs<T>(rows.c, packs<n>(rows.c, x, w, dout, residual, dx, normed) && rows.stride % n == 0,
                  [&]<int N, int P, int R, int Threads>(unsigned threads) {
                    const auto blocks =
                        static_cast<unsigned>(std::min<std::int64_t>(most, (rows.n + R - 1) / R));
                    backward<T, N, P, R, Threads><<<blocks, threads, 0, gpu.stream()>>>(
                        dout, x, w, op.rstd.as<float>(), residual, dx, normed, partial, rows);
                    add_rows<<<blocks_for(rows.c, 32), dim3(32, 32), 0, gpu.stream()>>>(
                        partial, blocks, rows.c, op.dweight.as<float>());
                  });
  });
  check_launch("rms_norm_backward");
}

}  // namespace foretoken::cuda

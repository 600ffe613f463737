#include "runtime/cuda/context.h"
#include "runtime/cuda/device.cuh"
#include "runtime/operators/rowwise/swiglu.cuh"
#include "runtime/operators/rowwise/swiglu.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 256;

/// out = silu(gate) · up. A block owns a row; a thread owns packs of N of its elements.
template <class T, int N>
__global__ void forward(const T* __restrict__ gate_up, T* __restrict__ out, std::int64_t f) {
  const T* gate = gate_up + static_cast<std::int64_t>(blockIdx.x) * 2 * f;
  T* to = out + static_cast<std::int64_t>(blockIdx.x) * f;
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * N; i < f; i += threads * N) {
    const Pack<T, N> g = load<N>(gate + i), u = load<N>(gate + f + i);
    Pack<T, N> result;
#pragma unroll
    for (int j = 0; j < N; ++j)
      result.at[j] = from_float<T>(Silu(to_float(g.at[j])).value * to_float(u.at[j]));
    store<N>(to + i, result);
  }
}

/// The gradients of gate and up, and `out` again if it is not null (swiglu.h). The work is divided as in
/// forward. dgate_up may alias gate_up and out may alias dout: a thread reads its elements before it writes
/// them.
template <class T, int N>
__global__ void backward(const T* dout, const T* gate_up, T* dgate_up, T* out, std::int64_t f) {
  const std::int64_t row = blockIdx.x;
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * N; i < f; i += threads * N) {
    const Pack<T, N> g = load<N>(gate_up + row * 2 * f + i), u = load<N>(gate_up + row * 2 * f + f + i);
    const Pack<T, N> d = load<N>(dout + row * f + i);
    Pack<T, N> dgate, dup, again;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const Silu silu(to_float(g.at[j]));
      const float up = to_float(u.at[j]), d_j = to_float(d.at[j]);
      // out = silu(gate) · up
      dgate.at[j] = from_float<T>(d_j * up * silu.derivative());
      dup.at[j] = from_float<T>(d_j * silu.value);
      again.at[j] = from_float<T>(silu.value * up);
    }
    store<N>(dgate_up + row * 2 * f + i, dgate);
    store<N>(dgate_up + row * 2 * f + f + i, dup);
    if (out) store<N>(out + row * f + i, again);
  }
}

}  // namespace

void swiglu_forward(Stream& stream, const SwigluForward& op) {
  const std::int64_t f = op.out.shape[op.out.shape.rank() - 1], n = op.out.elements() / f;
  if (n == 0) return;
  with_activation("swiglu_forward", op.out.dtype, [&]<class T>() {
    const T* gate_up = static_cast<const T*>(op.gate_up.data);
    T* out = static_cast<T*>(op.out.data);
    constexpr int pack = lane_elements<T>;
    const auto blocks = static_cast<unsigned>(n);
    if (packs<pack>(f, gate_up, out))
      forward<T, pack><<<blocks, threads, 0, stream.cuda().stream()>>>(gate_up, out, f);
    else
      forward<T, 1><<<blocks, threads, 0, stream.cuda().stream()>>>(gate_up, out, f);
  });
  check_launch("swiglu_forward");
}

void swiglu_backward(Stream& stream, const SwigluBackward& op) {
  const std::int64_t f = op.dout.shape[op.dout.shape.rank() - 1], n = op.dout.elements() / f;
  if (n == 0) return;
  with_activation("swiglu_backward", op.dout.dtype, [&]<class T>() {
    const T *dout = static_cast<const T*>(op.dout.data), *gate_up = static_cast<const T*>(op.gate_up.data);
    T *dgate_up = static_cast<T*>(op.dgate_up.data), *out = static_cast<T*>(op.out.data);
    constexpr int pack = lane_elements<T>;
    const auto blocks = static_cast<unsigned>(n);
    if (packs<pack>(f, dout, gate_up, dgate_up, out))
      backward<T, pack><<<blocks, threads, 0, stream.cuda().stream()>>>(dout, gate_up, dgate_up, out, f);
    else
      backward<T, 1><<<blocks, threads, 0, stream.cuda().stream()>>>(dout, gate_up, dgate_up, out, f);
  });
  check_launch("swiglu_backward");
}

}  // namespace foretoken::cuda

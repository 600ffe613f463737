#include "runtime/cuda/context.h"
#include "runtime/cuda/device.cuh"
#include "runtime/operators/rowwise/activation.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 256;

struct Gelu {
  static __device__ float distribution(float x) { return 0.5F * (1.0F + erff(x * 0.707106781F)); }
  static __device__ float value(float x) { return x * distribution(x); }
  static __device__ float slope(float x) {
    return distribution(x) + x * 0.398942280F * __expf(-0.5F * x * x);
  }
};

struct Silu {
  static __device__ float sigmoid(float x) { return 1.0F / (1.0F + __expf(-x)); }
  static __device__ float value(float x) { return x * sigmoid(x); }
  static __device__ float slope(float x) {
    const float s = sigmoid(x);
    return s * (1.0F + x * (1.0F - s));
  }
};

/// out = f(x) (+ residual). A thread owns a pack of N elements. residual may be null.
template <class T, int N, class Function>
__global__ void forward(const T* x, const T* residual, T* out, std::int64_t count) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * N;
  if (i >= count) return;
  const Pack<T, N> in = load<N>(x + i);
  Pack<T, N> result{};
  if (residual) result = load<N>(residual + i);
#pragma unroll
  for (int j = 0; j < N; ++j)
    result.at[j] =
        from_float<T>(Function::value(to_float(in.at[j])) + (residual ? to_float(result.at[j]) : 0.0F));
  store<N>(out + i, result);
}

/// dx = dout · f′(x). A thread owns a pack of N elements. dx may alias dout or x: a thread reads its elements
/// before it writes them.
template <class T, int N, class Function>
__global__ void backward(const T* dout, const T* x, T* dx, std::int64_t count) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * N;
  if (i >= count) return;
  const Pack<T, N> in = load<N>(x + i), d = load<N>(dout + i);
  Pack<T, N> result;
#pragma unroll
  for (int j = 0; j < N; ++j)
    result.at[j] = from_float<T>(to_float(d.at[j]) * Function::slope(to_float(in.at[j])));
  store<N>(dx + i, result);
}

/// Calls launch.operator()<N, Function>() with the widest packs that the pointers' alignment and `count`
/// allow.
template <class Launch, class... T>
void with_pack_and_function(Activation function, std::int64_t count, const Launch& launch, const T*... data) {
  constexpr int wide = 8;
  const bool packed = packs<wide>(count, data...);
  if (function == Activation::gelu)
    packed ? launch.template operator()<wide, Gelu>() : launch.template operator()<1, Gelu>();
  else
    packed ? launch.template operator()<wide, Silu>() : launch.template operator()<1, Silu>();
}

}  // namespace

void activation_forward(Stream& stream, const ActivationForward& op) {
  const std::int64_t count = op.x.elements();
  if (count == 0) return;
  with_activation("activation_forward", op.x.dtype, [&]<class T>() {
    const T *x = static_cast<const T*>(op.x.data), *residual = static_cast<const T*>(op.residual.data);
    T* out = static_cast<T*>(op.out.data);
    with_pack_and_function(
        op.function, count,
        [&]<int N, class Function>() {
          forward<T, N, Function><<<blocks_for(count, threads * N), threads, 0, stream.cuda().stream()>>>(
              x, residual, out, count);
        },
        x, residual, out);
  });
  check_launch("activation_forward");
}

void activation_backward(Stream& stream, const ActivationBackward& op) {
  const std::int64_t count = op.x.elements();
  if (count == 0) return;
  with_activation("activation_backward", op.x.dtype, [&]<class T>() {
    const T *dout = static_cast<const T*>(op.dout.data), *x = static_cast<const T*>(op.x.data);
    T* dx = static_cast<T*>(op.dx.data);
    with_pack_and_function(
        op.function, count,
        [&]<int N, class Function>() {
          backward<T, N, Function>
              <<<blocks_for(count, threads * N), threads, 0, stream.cuda().stream()>>>(dout, x, dx, count);
        },
        dout, x, dx);
  });
  check_launch("activation_backward");
}

}  // namespace foretoken::cuda

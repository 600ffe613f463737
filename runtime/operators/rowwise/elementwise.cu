#include "runtime/cuda/context.h"
#include "runtime/cuda/device.cuh"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 256;

/// out[i] = body(x[i], out[i]) for every i in [0, count). A thread owns N neighbouring elements.
template <class From, class To, int N, class Body>
__global__ void map(const From* x, To* out, std::int64_t count, Body body) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * N;
  if (i >= count) return;
  const Pack<From, N> in = load<N>(x + i);
  Pack<To, N> result = load<N>(out + i);
#pragma unroll
  for (int j = 0; j < N; ++j) result.at[j] = body(in.at[j], result.at[j]);
  store<N>(out + i, result);
}

template <class From, class To, class Body>
void map_all(Stream& stream, const char* who, const From* x, To* out, std::int64_t count, Body body) {
  if (count == 0) return;
  constexpr int n = 8;
  if (packs<n>(count, x, out))
    map<From, To, n>
        <<<blocks_for(count, threads * n), threads, 0, stream.cuda().stream()>>>(x, out, count, body);
  else
    map<From, To, 1><<<blocks_for(count, threads), threads, 0, stream.cuda().stream()>>>(x, out, count, body);
  check_launch(who);
}

struct Convert {
  template <class From, class To>
  __device__ To operator()(From x, To) const {
    return from_float<To>(to_float(x));
  }
};

struct Add {
  template <class T>
  __device__ T operator()(T x, T sum) const {
    return from_float<T>(to_float(sum) + to_float(x));
  }
};

struct Fill {
  float value;
  template <class T>
  __device__ T operator()(T, T) const {
    return from_float<T>(value);
  }
};

}  // namespace

void set_zero(Stream& stream, const Tensor& out) {
  check(cudaMemsetAsync(out.data, 0, out.bytes(), stream.cuda().stream()), "set_zero");
}

void fill(Stream& stream, const Tensor& out, double value) {
  with_activation("fill", out.dtype, [&]<class T>() {
    T* to = static_cast<T*>(out.data);
    map_all(stream, "fill", to, to, out.elements(), Fill{static_cast<float>(value)});
  });
}

void copy(Stream& stream, const Tensor& x, const Tensor& out) {
  check(cudaMemcpyAsync(out.data, x.data, x.bytes(), cudaMemcpyDefault, stream.cuda().stream()), "copy");
}

void convert(Stream& stream, const Tensor& x, const Tensor& out) {
  with_activation("convert", x.dtype, [&]<class From>() {
    with_activation("convert", out.dtype, [&]<class To>() {
      map_all(stream, "convert", static_cast<const From*>(x.data), static_cast<To*>(out.data), x.elements(),
              Convert{});
    });
  });
}

void add(Stream& stream, const Tensor& x, const Tensor& out) {
  with_activation("add", x.dtype, [&]<class T>() {
    map_all(stream, "add", static_cast<const T*>(x.data), static_cast<T*>(out.data), x.elements(), Add{});
  });
}

}  // namespace foretoken::cuda

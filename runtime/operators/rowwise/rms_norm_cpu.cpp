#include <cmath>

#include "runtime/operators/dispatch.h"
#include "runtime/operators/rowwise/rms_norm.h"

namespace foretoken::cpu {

namespace {

struct Dims {
  std::int64_t n, c, stride;

  Dims(const Tensor& rstd, const Tensor& weight, const Columns& columns)
      : n(rstd.elements()), c(weight.elements()), stride(n == 0 ? c : columns.matrix.elements() / n) {}
};

/// amax = the largest magnitude in the column block.
template <class T>
void store_amax(const Columns& columns, const Dims& dims, const Tensor& amax) {
  if (!amax.defined()) return;
  float largest = 0;
  for (std::int64_t row = 0; row < dims.n; ++row) {
    const T* x = columns.matrix.as<T>() + row * dims.stride + columns.first;
    for (std::int64_t i = 0; i < dims.c; ++i)
      largest = std::fmax(largest, std::fabs(static_cast<float>(x[i])));
  }
  *amax.as<float>() = largest;
}

}  // namespace

void rms_norm_forward(Stream& stream, const RmsNormForward& op) {
  const auto [n, c, stride] = Dims(op.rstd, op.weight, op.out);
  with_floating("rms_norm_forward", op.x.dtype, [&, c = c, stride = stride, n = n]<class T>() {
    const T* w = op.weight.as<T>();
    stream.threads().parallel_for(n, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* x = op.x.as<T>() + row * c;
        T* out = op.out.matrix.as<T>() + row * stride + op.out.first;
        T squares = 0;
#pragma omp simd reduction(+ : squares)
        for (std::int64_t i = 0; i < c; ++i) squares += x[i] * x[i];
        const T rstd = T(1) / std::sqrt(squares / T(c) + T(op.eps));
        op.rstd.as<T>()[row] = rstd;
#pragma omp simd
        for (std::int64_t i = 0; i < c; ++i) out[i] = x[i] * rstd * w[i];
      }
    });
    store_amax<T>(op.out, {op.rstd, op.weight, op.out}, op.amax);
  });
}

void rms_norm_backward(Stream& stream, const RmsNormBackward& op) {
  const auto [n, c, stride] = Dims(op.rstd, op.weight, op.dout);
  with_floating("rms_norm_backward", op.x.dtype, [&, c = c, stride = stride, n = n]<class T>() {
    const T* w = op.weight.as<T>();
    // Threads own columns, so every sum runs in row order.
    const std::int64_t columns = op.dweight.defined() ? c : 0;
    stream.threads().parallel_for(columns, 64, [&, n = n](std::int64_t begin, std::int64_t end) {
      T* dw = op.dweight.as<T>();
      for (std::int64_t row = 0; row < n; ++row) {
        const T* x = op.x.as<T>() + row * c;
        const T* dout = op.dout.matrix.as<T>() + row * stride + op.dout.first;
        const T rstd = op.rstd.as<T>()[row];
#pragma omp simd
        for (std::int64_t i = begin; i < end; ++i) dw[i] += dout[i] * x[i] * rstd;
      }
    });
    stream.threads().parallel_for(n, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* x = op.x.as<T>() + row * c;
        const T* dout = op.dout.matrix.as<T>() + row * stride + op.dout.first;
        T* dx = op.dx.as<T>() + row * c;
        const T rstd = op.rstd.as<T>()[row];
        T dot = 0;
#pragma omp simd reduction(+ : dot)
        for (std::int64_t i = 0; i < c; ++i) dot += w[i] * dout[i] * x[i];
        const T shift = dot / T(c) * rstd * rstd * rstd;
        // out = x · rstd · w, where rstd is also a function of x
        if (op.residual.defined()) {
          const T* residual = op.residual.as<T>() + row * c;
#pragma omp simd
          for (std::int64_t i = 0; i < c; ++i) dx[i] = residual[i] + rstd * w[i] * dout[i] - shift * x[i];
        } else {
#pragma omp simd
          for (std::int64_t i = 0; i < c; ++i) dx[i] = rstd * w[i] * dout[i] - shift * x[i];
        }
        if (!op.out.defined()) continue;
        T* out = op.out.as<T>() + row * c;
#pragma omp simd
        for (std::int64_t i = 0; i < c; ++i) out[i] = x[i] * rstd * w[i];
      }
    });
    const Columns dx{op.dx};
    store_amax<T>(dx, {op.rstd, op.weight, dx}, op.amax);
  });
}

}  // namespace foretoken::cpu

#include <cmath>

#include "runtime/operators/dispatch.h"
#include "runtime/operators/rms_norm.h"
#include "runtime/profile.h"

namespace foretoken {

namespace {

struct Dims {
  std::int64_t n, c, stride;
};

Dims dims_of(const char* who, const Tensor& x, const Tensor& rstd, const Tensor& weight, const Columns& out) {
  const std::int64_t n = rstd.elements(), c = weight.elements();
  const std::int64_t stride = n == 0 ? c : out.matrix.elements() / n;
  if (x.elements() != n * c || out.matrix.elements() != n * stride || out.first + c > stride)
    throw DefectError("{}: x {}, weight {}, rstd {}, columns [{}, {}) of {} do not fit", who,
                      to_string(x.shape), to_string(weight.shape), to_string(rstd.shape), out.first,
                      out.first + c, to_string(out.matrix.shape));
  return {n, c, stride};
}

}  // namespace

void rms_norm_forward(Stream& stream, const RmsNormForward& op) {
  const ProfileScope scope(stream, "rms_norm_forward");
  const auto [n, c, stride] = dims_of("rms_norm_forward", op.x, op.rstd, op.weight, op.out);
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
  });
}

void rms_norm_backward_input(Stream& stream, const RmsNormBackwardInput& op) {
  const ProfileScope scope(stream, "rms_norm_backward_input");
  const auto [n, c, stride] = dims_of("rms_norm_backward_input", op.x, op.rstd, op.weight, op.dout);
  with_floating("rms_norm_backward_input", op.x.dtype, [&, c = c, stride = stride, n = n]<class T>() {
    const T* w = op.weight.as<T>();
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
        // out = x · rstd · w, where rstd depends on x as well
        if (op.accumulate) {
#pragma omp simd
          for (std::int64_t i = 0; i < c; ++i) dx[i] += rstd * w[i] * dout[i] - shift * x[i];
        } else {
#pragma omp simd
          for (std::int64_t i = 0; i < c; ++i) dx[i] = rstd * w[i] * dout[i] - shift * x[i];
        }
      }
    });
  });
}

void rms_norm_backward_weight(Stream& stream, const RmsNormBackwardWeight& op) {
  const ProfileScope scope(stream, "rms_norm_backward_weight");
  const auto [n, c, stride] = dims_of("rms_norm_backward_weight", op.x, op.rstd, op.dweight, op.dout);
  with_floating("rms_norm_backward_weight", op.x.dtype, [&, c = c, stride = stride, n = n]<class T>() {
    // Threads own columns, so the order of every sum is that of the rows.
    stream.threads().parallel_for(c, 64, [&, n = n](std::int64_t begin, std::int64_t end) {
      T* dw = op.dweight.as<T>();
      for (std::int64_t row = 0; row < n; ++row) {
        const T* x = op.x.as<T>() + row * c;
        const T* dout = op.dout.matrix.as<T>() + row * stride + op.dout.first;
        const T rstd = op.rstd.as<T>()[row];
#pragma omp simd
        for (std::int64_t i = begin; i < end; ++i) dw[i] += dout[i] * x[i] * rstd;
      }
    });
  });
}

}  // namespace foretoken

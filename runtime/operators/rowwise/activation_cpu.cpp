#include <cmath>
#include <numbers>

#include "runtime/operators/dispatch.h"
#include "runtime/operators/rowwise/activation.h"
#include "runtime/operators/vector_math.h"

namespace foretoken::cpu {

namespace {

constexpr std::int64_t grain = 1 << 12;

template <class T>
T normal_distribution(T x) {
  return T(0.5) * (T(1) + erf(x * (std::numbers::sqrt2_v<T> / 2)));
}

struct Gelu {
  template <class T>
  static T value(T x) {
    return x * normal_distribution(x);
  }
  template <class T>
  static T slope(T x) {
    const T density = std::numbers::inv_sqrtpi_v<T> * (std::numbers::sqrt2_v<T> / 2) * exp(T(-0.5) * x * x);
    return normal_distribution(x) + x * density;
  }
};

struct Silu {
  template <class T>
  static T value(T x) {
    return x / (T(1) + exp(-x));
  }
  template <class T>
  static T slope(T x) {
    const T sigmoid = T(1) / (T(1) + exp(-x));
    return sigmoid * (T(1) + x * (T(1) - sigmoid));
  }
};

template <class Body>
void with_function(Activation function, const Body& body) {
  if (function == Activation::gelu)
    body(Gelu{});
  else
    body(Silu{});
}

}  // namespace

void activation_forward(Stream& stream, const ActivationForward& op) {
  with_floating("activation_forward", op.x.dtype, [&]<class T>() {
    const T* x = op.x.as<T>();
    const T* residual = op.residual.defined() ? op.residual.as<T>() : nullptr;
    T* out = op.out.as<T>();
    with_function(op.function, [&](auto f) {
      stream.threads().parallel_for(op.x.elements(), grain, [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
        for (std::int64_t i = begin; i < end; ++i) out[i] = f.value(x[i]) + (residual ? residual[i] : T(0));
      });
    });
  });
}

void activation_backward(Stream& stream, const ActivationBackward& op) {
  with_floating("activation_backward", op.x.dtype, [&]<class T>() {
    const T *dout = op.dout.as<T>(), *x = op.x.as<T>();
    T* dx = op.dx.as<T>();
    with_function(op.function, [&](auto f) {
      stream.threads().parallel_for(op.x.elements(), grain, [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
        for (std::int64_t i = begin; i < end; ++i) dx[i] = dout[i] * f.slope(x[i]);
      });
    });
  });
}

}  // namespace foretoken::cpu

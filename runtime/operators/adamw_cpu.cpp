#include <cmath>

#include "runtime/operators/adamw.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/elementwise.h"

namespace foretoken::cpu {

void adamw(Stream& stream, const AdamW& op) {
  const std::int64_t n = op.values.elements();
  const double gradient_scale = *op.gradient_scale.as<double>();
  if (!std::isfinite(gradient_scale)) return;
  with_floating("adamw", op.values.dtype, [&]<class T>() {
    T* p = op.values.as<T>();
    const T* g = op.gradients.as<T>();
    T* m = op.exp_avg.as<T>();
    T* v = op.exp_avg_sq.as<T>();
    const T beta1 = static_cast<T>(op.beta1), beta2 = static_cast<T>(op.beta2), eps = static_cast<T>(op.eps);
    const T scale = static_cast<T>(gradient_scale);
    const double t = static_cast<double>(op.step);
    const T step_size = static_cast<T>(op.lr / (1 - std::pow(op.beta1, t)));
    const T rsqrt_correction = static_cast<T>(1 / std::sqrt(1 - std::pow(op.beta2, t)));
    const T keep = static_cast<T>(1 - op.lr * op.weight_decay);
    stream.threads().parallel_for(n, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) {
        const T gradient = scale * g[i];
        m[i] = beta1 * m[i] + (1 - beta1) * gradient;
        v[i] = beta2 * v[i] + (1 - beta2) * gradient * gradient;
        p[i] = keep * p[i] - step_size * m[i] / (std::sqrt(v[i]) * rsqrt_correction + eps);
      }
    });
  });
  if (op.weights.defined()) cpu::convert(stream, op.values, op.weights);
}

}  // namespace foretoken::cpu

#include <bit>
#include <cmath>
#include <type_traits>

#include "runtime/operators/dispatch.h"
#include "runtime/operators/parameters/adamw.h"
#include "runtime/operators/parameters/adamw_rounding.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken::cpu {

namespace {

std::uint32_t bits(float x) {
  return std::bit_cast<std::uint32_t>(x);
}

template <class T, class Moment>
void update(Stream& stream, const AdamW& op) {
  T* p = op.values.as<T>();
  const T* g = op.gradients.as<T>();
  Moment* m = op.exp_avg.as<Moment>();
  Moment* v = op.exp_avg_sq.as<Moment>();
  const T beta1 = static_cast<T>(op.beta1), beta2 = static_cast<T>(op.beta2), eps = static_cast<T>(op.eps);
  const T scale = static_cast<T>(*op.gradient_scale.as<double>());
  const double t = static_cast<double>(op.step);
  const T step_size = static_cast<T>(op.lr / (1 - std::pow(op.beta1, t)));
  const T rsqrt_correction = static_cast<T>(1 / std::sqrt(1 - std::pow(op.beta2, t)));
  const T keep = static_cast<T>(1 - op.lr * op.weight_decay);
  const auto step = static_cast<std::uint32_t>(op.step);
  stream.threads().parallel_for(op.values.elements(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      // Explicit fma, because compilers contract expressions differently and the moments must have the same
      // bits on all devices.
      const T gradient = scale * g[i];
      const T mean = std::fma(beta1, static_cast<T>(m[i]), (1 - beta1) * gradient);
      const T square = std::fma(beta2, static_cast<T>(v[i]), (1 - beta2) * gradient * gradient);
      if constexpr (std::is_same_v<Moment, BFloat16>) {
        const std::uint32_t dither = adamw_dither(step, bits(g[i]), bits(p[i]), m[i].bits, v[i].bits);
        m[i].bits = stochastic_bf16(bits(mean), dither);
        v[i].bits = stochastic_bf16(bits(square), dither >> 16);
      } else {
        m[i] = mean;
        v[i] = square;
      }
      p[i] = keep * p[i] - step_size * mean / (std::sqrt(square) * rsqrt_correction + eps);
    }
  });
}

}  // namespace

void adamw(Stream& stream, const AdamW& op) {
  if (!std::isfinite(*op.gradient_scale.as<double>())) return;
  if (op.exp_avg.dtype == DType::bf16)
    update<float, BFloat16>(stream, op);
  else
    with_floating("adamw", op.values.dtype, [&]<class T>() { update<T, T>(stream, op); });
  if (op.weights.defined()) cpu::convert(stream, op.values, op.weights);
}

}  // namespace foretoken::cpu

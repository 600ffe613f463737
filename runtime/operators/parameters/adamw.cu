#include <cmath>
#include <type_traits>

#include "runtime/cuda/context.h"
#include "runtime/cuda/device.cuh"
#include "runtime/operators/parameters/adamw.h"
#include "runtime/operators/parameters/adamw_rounding.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 256;

struct Constants {
  float beta1, beta2, eps, step_size, rsqrt_correction, keep;
  std::uint32_t step;
};

/// One AdamW step (adamw.h). A thread owns N elements and reads and writes each buffer once; with N = 4, f32
/// in 16-byte accesses and bf16 in 8-byte ones. Explicit fma, because compilers contract expressions
/// differently and the moments must have the CPU's bits.
template <class Moment, int N>
__global__ void update(float* __restrict__ values, const float* __restrict__ gradients,
                       Moment* __restrict__ exp_avg, Moment* __restrict__ exp_avg_sq,
                       __nv_bfloat16* __restrict__ weights, std::int64_t count, const double* gradient_scale,
                       Constants k) {
  const float scale = static_cast<float>(*gradient_scale);
  if (!isfinite(scale)) return;
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * N;
  if (i >= count) return;
  Pack<float, N> p = load<N>(values + i);
  Pack<Moment, N> m = load<N>(exp_avg + i), v = load<N>(exp_avg_sq + i);
  const Pack<float, N> g = load<N>(gradients + i);
  Pack<__nv_bfloat16, N> w;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const float gradient = scale * g.at[j];
    const float mean = fmaf(k.beta1, to_float(m.at[j]), (1 - k.beta1) * gradient);
    const float square = fmaf(k.beta2, to_float(v.at[j]), (1 - k.beta2) * gradient * gradient);
    if constexpr (std::is_same_v<Moment, __nv_bfloat16>) {
      const std::uint32_t dither = adamw_dither(k.step, __float_as_uint(g.at[j]), __float_as_uint(p.at[j]),
                                                __bfloat16_as_ushort(m.at[j]), __bfloat16_as_ushort(v.at[j]));
      m.at[j] = __ushort_as_bfloat16(stochastic_bf16(__float_as_uint(mean), dither));
      v.at[j] = __ushort_as_bfloat16(stochastic_bf16(__float_as_uint(square), dither >> 16));
    } else {
      m.at[j] = mean;
      v.at[j] = square;
    }
    p.at[j] = k.keep * p.at[j] - k.step_size * mean / (sqrtf(square) * k.rsqrt_correction + k.eps);
    w.at[j] = from_float<__nv_bfloat16>(p.at[j]);
  }
  store<N>(values + i, p);
  store<N>(exp_avg + i, m);
  store<N>(exp_avg_sq + i, v);
  if (weights) store<N>(weights + i, w);
}

template <class Moment>
void launch(Stream& stream, const AdamW& op, const Constants& k) {
  const std::int64_t n = op.values.elements();
  float* p = op.values.as<float>();
  const float* g = op.gradients.as<float>();
  Moment *m = op.exp_avg.as<Moment>(), *v = op.exp_avg_sq.as<Moment>();
  auto* w = op.weights.defined() ? op.weights.as<__nv_bfloat16>() : nullptr;
  const cudaStream_t on = stream.cuda().stream();
  const double* scale = op.gradient_scale.as<double>();
  if (packs<4>(n, p, m, v, g, w))
    update<Moment, 4><<<blocks_for(n, threads * 4), threads, 0, on>>>(p, g, m, v, w, n, scale, k);
  else
    update<Moment, 1><<<blocks_for(n, threads), threads, 0, on>>>(p, g, m, v, w, n, scale, k);
  check_launch("adamw");
}

}  // namespace

void adamw(Stream& stream, const AdamW& op) {
  if (op.values.elements() == 0) return;
  const double t = static_cast<double>(op.step);
  const Constants k{.beta1 = static_cast<float>(op.beta1),
                    .beta2 = static_cast<float>(op.beta2),
                    .eps = static_cast<float>(op.eps),
                    .step_size = static_cast<float>(op.lr / (1 - std::pow(op.beta1, t))),
                    .rsqrt_correction = static_cast<float>(1 / std::sqrt(1 - std::pow(op.beta2, t))),
                    .keep = static_cast<float>(1 - op.lr * op.weight_decay),
                    .step = static_cast<std::uint32_t>(op.step)};
  with_activation("adamw", op.exp_avg.dtype, [&]<class Moment>() { launch<Moment>(stream, op, k); });
}

}  // namespace foretoken::cuda

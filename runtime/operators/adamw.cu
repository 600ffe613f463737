#include <cmath>

#include "runtime/cuda/context.h"
#include "runtime/cuda/device.cuh"
#include "runtime/operators/adamw.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 256;

struct Constants {
  float beta1, beta2, eps, step_size, rsqrt_correction, keep;
};

/// A thread owns N elements: each buffer is read once and written once, in 16-byte accesses.
template <class Weight, int N>
__global__ void update(float* __restrict__ values, const float* __restrict__ gradients,
                       float* __restrict__ exp_avg, float* __restrict__ exp_avg_sq,
                       Weight* __restrict__ weights, std::int64_t count, const double* gradient_scale,
                       Constants k) {
  const float scale = static_cast<float>(*gradient_scale);
  if (!isfinite(scale)) return;
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * N;
  if (i >= count) return;
  Pack<float, N> p = load<N>(values + i), m = load<N>(exp_avg + i), v = load<N>(exp_avg_sq + i);
  const Pack<float, N> g = load<N>(gradients + i);
  Pack<Weight, N> w;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const float gradient = scale * g.at[j];
    m.at[j] = k.beta1 * m.at[j] + (1 - k.beta1) * gradient;
    v.at[j] = k.beta2 * v.at[j] + (1 - k.beta2) * gradient * gradient;
    p.at[j] = k.keep * p.at[j] - k.step_size * m.at[j] / (sqrtf(v.at[j]) * k.rsqrt_correction + k.eps);
    w.at[j] = from_float<Weight>(p.at[j]);
  }
  store<N>(values + i, p);
  store<N>(exp_avg + i, m);
  store<N>(exp_avg_sq + i, v);
  if (weights) store<N>(weights + i, w);
}

}  // namespace

void adamw(Stream& stream, const AdamW& op) {
  const std::int64_t n = op.values.elements();
  if (n == 0) return;
  const double t = static_cast<double>(op.step);
  const Constants k{.beta1 = static_cast<float>(op.beta1),
                    .beta2 = static_cast<float>(op.beta2),
                    .eps = static_cast<float>(op.eps),
                    .step_size = static_cast<float>(op.lr / (1 - std::pow(op.beta1, t))),
                    .rsqrt_correction = static_cast<float>(1 / std::sqrt(1 - std::pow(op.beta2, t))),
                    .keep = static_cast<float>(1 - op.lr * op.weight_decay)};
  float *p = op.values.as<float>(), *m = op.exp_avg.as<float>(), *v = op.exp_avg_sq.as<float>();
  const float* g = op.gradients.as<float>();
  auto* w = op.weights.defined() ? op.weights.as<__nv_bfloat16>() : nullptr;
  const cudaStream_t on = stream.cuda().stream();
  const double* scale = op.gradient_scale.as<double>();
  if (packs<4>(n, p, m, v, g, w))
    update<__nv_bfloat16, 4><<<blocks_for(n, threads * 4), threads, 0, on>>>(p, g, m, v, w, n, scale, k);
  else
    update<__nv_bfloat16, 1><<<blocks_for(n, threads), threads, 0, on>>>(p, g, m, v, w, n, scale, k);
  check_launch("adamw");
}

}  // namespace foretoken::cuda

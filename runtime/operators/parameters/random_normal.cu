#include "runtime/cuda/context.h"
#include "runtime/cuda/device.cuh"
#include "runtime/operators/parameters/random_normal.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 256;

/// out[i] = std · rng.normal(i), rounded to f32. A thread owns one element.
__global__ void draw(float* out, std::int64_t count, CounterRng rng, double std) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= count) return;
  const auto words = rng.block(static_cast<std::uint64_t>(i));
  const double u = (static_cast<double>(words[0]) + 0.5) * 0x1p-32;
  const double v = (static_cast<double>(words[1]) + 0.5) * 0x1p-32;
  out[i] = static_cast<float>(std * sqrt(-2.0 * log(u)) * cospi(2.0 * v));
}

}  // namespace

void random_normal(Stream& stream, const RandomNormal& op) {
  const std::int64_t count = op.out.elements();
  if (count == 0) return;
  draw<<<blocks_for(count, threads), threads, 0, stream.cuda().stream()>>>(op.out.as<float>(), count, op.rng,
                                                                           op.std);
  check_launch("random_normal");
}

}  // namespace foretoken::cuda

#include "runtime/cuda/context.h"
#include "runtime/cuda/overlap.cuh"
#include "runtime/operators/argmax.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 1024, warps = threads / 32;

/// The largest of what was seen so far and the lowest place of it.
struct Best {
  float value = -INFINITY;
  int at = 0x7fffffff;
  bool sound = true;  // all of it is numbers

  __device__ void take(const Best& other) {
    if (other.value > value || (other.value == value && other.at < at)) value = other.value, at = other.at;
    sound = sound && other.sound;
  }
  __device__ void take_lanes() {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2)
      take({__shfl_xor_sync(full_warp, value, offset), __shfl_xor_sync(full_warp, at, offset),
            __shfl_xor_sync(full_warp, sound, offset) != 0});
  }
};

/// A block owns a row, a thread packs of N of its elements.
template <int N>
__global__ void __launch_bounds__(threads)
    find(const float* x, std::int64_t stride, int count, std::int32_t* out) {
  __shared__ Best shared[warps];
  let_next_begin();
  wait_for_earlier_work();
  const float* row = x + static_cast<std::int64_t>(blockIdx.x) * stride;
  Best best;
  for (int first = static_cast<int>(threadIdx.x) * N; first < count; first += threads * N) {
    const Pack<float, N> pack = load<N>(row + first);
#pragma unroll
    for (int j = 0; j < N; ++j)
      if (first + j < count) best.take({pack.at[j], first + j, pack.at[j] == pack.at[j]});
  }
  best.take_lanes();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (lane == 0) shared[warp] = best;
  __syncthreads();
  if (warp != 0) return;
  best = shared[lane];
  best.take_lanes();
  if (lane == 0) out[blockIdx.x] = best.sound && isfinite(best.value) ? best.at : -1;
}

}  // namespace

void argmax(Stream& stream, const Argmax& op) {
  const std::int64_t n = op.x.shape[0], stride = op.x.shape[1];
  if (n == 0) return;
  const auto* x = op.x.as<float>();
  auto* out = op.out.as<std::int32_t>();
  launch_overlapped(stream.cuda().stream(), packs<4>(stride, x) ? find<4> : find<1>,
                    {.grid = dim3(static_cast<unsigned>(n)), .threads = threads}, x, stride,
                    static_cast<int>(op.count), out);
}

}  // namespace foretoken::cuda

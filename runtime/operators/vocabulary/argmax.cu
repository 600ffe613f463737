#include "runtime/cuda/context.h"
#include "runtime/cuda/overlap.cuh"
#include "runtime/operators/vocabulary/argmax.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 1024, warps = threads / 32;

/// The largest of the values seen and its lowest index.
struct Best {
  float value = -INFINITY;
  int at = 0x7fffffff;
  bool without_nan = true;  // no value is a NaN

  __device__ void take(const Best& other) {
    if (other.value > value || (other.value == value && other.at < at)) value = other.value, at = other.at;
    without_nan = without_nan && other.without_nan;
  }
  __device__ void take_lanes() {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2)
      take({__shfl_xor_sync(full_warp, value, offset), __shfl_xor_sync(full_warp, at, offset),
            __shfl_xor_sync(full_warp, without_nan, offset) != 0});
  }
};

/// out[row, k] = index of the k-th largest of x[row, 0 .. count), or −1 (argmax.h). A block owns a row; a
/// thread reads packs of N elements. The row is read once per candidate k: each pass looks for the largest
/// value that comes after the previous candidate in order. Shared memory: each warp's best value.
template <int N>
__global__ void __launch_bounds__(threads)
    find(const float* x, std::int64_t stride, int count, std::int32_t* out, int candidates) {
  __shared__ Best shared[warps];
  launch_dependents();
  wait_for_earlier_work();
  const float* row = x + static_cast<std::int64_t>(blockIdx.x) * stride;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  Best last{INFINITY, -1};  // the previous candidate
  bool valid = true;        // no NaN, and the largest is finite
  for (int k = 0; k < candidates; ++k) {
    Best best;
    for (int first = static_cast<int>(threadIdx.x) * N; first < count; first += threads * N) {
      const Pack<float, N> pack = load<N>(row + first);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        if (first + j >= count) continue;
        const float value = pack.at[j];
        if (value < last.value || (value == last.value && first + j > last.at))
          best.take({value, first + j, true});
        best.without_nan = best.without_nan && value == value;
      }
    }
    best.take_lanes();
    if (lane == 0) shared[warp] = best;
    __syncthreads();
    best = shared[lane];
    best.take_lanes();
    if (k == 0) valid = best.without_nan && isfinite(best.value);
    if (threadIdx.x == 0) out[static_cast<std::int64_t>(blockIdx.x) * candidates + k] = valid ? best.at : -1;
    last = best;
    __syncthreads();  // all threads have read `shared`, which the next pass overwrites
  }
}

}  // namespace

void argmax(Stream& stream, const Argmax& op) {
  const std::int64_t n = op.x.shape[0], stride = op.x.shape[1], candidates = op.out.shape[1];
  if (n == 0) return;
  const auto* x = op.x.as<float>();
  auto* out = op.out.as<std::int32_t>();
  launch_overlapped(stream.cuda().stream(), packs<4>(stride, x) ? find<4> : find<1>,
                    {.grid = dim3(static_cast<unsigned>(n)), .threads = threads}, x, stride,
                    static_cast<int>(op.count), out, static_cast<int>(candidates));
}

}  // namespace foretoken::cuda

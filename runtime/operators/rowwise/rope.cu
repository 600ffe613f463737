#include "runtime/cuda/context.h"
#include "runtime/cuda/overlap.cuh"
#include "runtime/operators/rowwise/rope.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 256;

struct Sizes {
  std::int64_t length, width;  // T, and the elements of a row of qkv
  int heads, half;             // heads that are rotated, HS/2
};

/// Rotates the pairs (i, i + HS/2) of the first `heads` heads of qkv in place (rope.h). A block owns a
/// token's row; a thread rotates N pairs of one head at a time. `sign` is −1 for the backward rotation.
template <class T, int N>
__global__ void rotate(T* qkv, const float* cos, const float* sin, const std::int32_t* positions, Sizes sizes,
                       float sign) {
  const auto [length, width, heads, half] = sizes;
  launch_dependents();
  wait_for_earlier_work();
  const std::int64_t row = blockIdx.x;
  const std::int64_t angles = (positions ? positions[row] : row % length) * half;
  const int packs_per_head = half / N;
  for (int at = static_cast<int>(threadIdx.x); at < heads * packs_per_head; at += threads) {
    const int head = at / packs_per_head, i = at % packs_per_head * N;
    T* first = qkv + row * width + static_cast<std::int64_t>(head) * 2 * half + i;
    Pack<T, N> x1 = load<N>(first), x2 = load<N>(first + half);
    const Pack<float, N> c = load<N>(cos + angles + i), s = load<N>(sin + angles + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float a = to_float(x1.at[j]), b = to_float(x2.at[j]), s_j = sign * s.at[j];
      x1.at[j] = from_float<T>(a * c.at[j] - b * s_j);
      x2.at[j] = from_float<T>(b * c.at[j] + a * s_j);
    }
    store<N>(first, x1);
    store<N>(first + half, x2);
  }
}

}  // namespace

void rope(Stream& stream, const Rope& op) {
  const std::int64_t rows = op.qkv.shape[0] * op.qkv.shape[1], width = op.qkv.shape[2];
  if (rows == 0) return;
  const Sizes sizes{.length = op.qkv.shape[1],
                    .width = width,
                    .heads = static_cast<int>(op.heads),
                    .half = static_cast<int>(op.cos.shape[1])};
  const float sign = op.direction == RopeDirection::forward ? 1.0F : -1.0F;
  with_activation("rope", op.qkv.dtype, [&]<class T>() {
    T* qkv = static_cast<T*>(op.qkv.data);
    const float *cos = op.cos.as<float>(), *sin = op.sin.as<float>();
    const std::int32_t* positions = op.positions.defined() ? op.positions.as<std::int32_t>() : nullptr;
    constexpr int pack = lane_elements<T>;
    const bool packed = packs<pack>(sizes.half, qkv) && width % pack == 0;
    launch_overlapped(stream.cuda().stream(), packed ? rotate<T, pack> : rotate<T, 1>,
                      {.grid = dim3(static_cast<unsigned>(rows)), .threads = threads}, qkv, cos, sin,
                      positions, sizes, sign);
  });
}

}  // namespace foretoken::cuda

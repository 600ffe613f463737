#pragma once
// Code that kernels share: 16-byte packs, conversions, sums over a warp and a block.

#include <cstdint>

#include <cuda_bf16.h>

#include "runtime/cuda/check.h"
#include "runtime/stream.h"

namespace foretoken {

template <>
constexpr DType dtype_of<__nv_bfloat16>() {
  return DType::bf16;
}

namespace cuda {

/// Calls function.template operator()<T>() with the device type of an activation dtype.
template <class Function>
void with_activation(const char* who, DType dtype, Function&& function) {
  switch (dtype) {
    case DType::f32:
      return function.template operator()<float>();
    case DType::bf16:
      return function.template operator()<__nv_bfloat16>();
    default:
      throw_dtype(who, dtype);
  }
}

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

template <class T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

/// N consecutive elements. A pack of at most 16 bytes is read or written in one access.
template <class T, int N>
struct alignas(sizeof(T) * N <= 16 ? sizeof(T) * N : 16) Pack {
  T at[N];
};

template <int N, class T>
__device__ Pack<T, N> load(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}

template <int N, class T>
__device__ void store(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

/// Elements of T that a lane reads in one access of 16 bytes.
template <class T>
inline constexpr int lane_elements = 16 / static_cast<int>(sizeof(T));

/// Whether consecutive rows of `width` elements, the first of which starts at each of the pointers, can be
/// read in packs of N. Null pointers are allowed.
template <int N, class... T>
bool packs(std::int64_t width, const T*... pointers) {
  return width % N == 0 && ((reinterpret_cast<std::uintptr_t>(pointers) % (N * sizeof(T)) == 0) && ...);
}

constexpr unsigned full_warp = 0xffffffffU;

template <class T>
__device__ T warp_sum(T x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(full_warp, x, offset);
  return x;
}

/// Returns the sum of x over the block to every thread. The block's size is a multiple of 32; `shared` has
/// one element per warp. The order of the sum depends only on the number of threads.
template <class T>
__device__ T block_sum(T x, T* shared) {
  x = warp_sum(x);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = warp_sum(lane < warps ? shared[lane] : T(0));
  __syncthreads();
  return x;
}

/// Grid size: count / per_block, rounded up.
inline unsigned blocks_for(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

}  // namespace cuda
}  // namespace foretoken

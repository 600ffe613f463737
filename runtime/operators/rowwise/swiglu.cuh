#pragma once
// The gate of one element, in fp32, for every kernel that computes it: backward's recomputed output then has
// forward's bits.

namespace foretoken::cuda {

struct Silu {
  float sigmoid, value;

  __device__ explicit Silu(float x) {
    // 1 / (1 + e⁻ˣ) to a unit in the last place or two; 0 where e⁻ˣ overflows
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(sigmoid) : "f"(1.0F + __expf(-x)));
    value = x * sigmoid;
  }
  __device__ float derivative() const { return sigmoid + value * (1.0F - sigmoid); }
};

}  // namespace foretoken::cuda

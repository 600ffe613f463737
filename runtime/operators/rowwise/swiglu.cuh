#pragma once
// silu of one element and its derivative in f32. All kernels use this code, so that an output that backward
// recomputes has the bits of forward's output.

namespace foretoken::cuda {

struct Silu {
  float sigmoid, value;

  __device__ explicit Silu(float x) {
    // 1 / (1 + e⁻ˣ), accurate to about two units in the last place; 0 if e⁻ˣ overflows
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(sigmoid) : "f"(1.0F + __expf(-x)));
    value = x * sigmoid;
  }
  __device__ float derivative() const { return sigmoid + value * (1.0F - sigmoid); }
};

}  // namespace foretoken::cuda

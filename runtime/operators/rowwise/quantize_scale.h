#pragma once
// The scale of a group of elements. Both devices compute the same bits.

#ifdef __CUDACC__
#define FORETOKEN_HOST_DEVICE __host__ __device__
#else
#define FORETOKEN_HOST_DEVICE
#endif

namespace foretoken {

struct GroupScale {
  float scale;    // dequantization: element ≈ scale · 8-bit number
  float inverse;  // quantization: 8-bit number = element · inverse, rounded

  /// `amax` is the largest magnitude in the group, `largest` the largest number of the format. An amax below
  /// 2⁻¹⁰⁰ counts as 2⁻¹⁰⁰, because the inverse could overflow; the group then does not use the format's full
  /// range.
  FORETOKEN_HOST_DEVICE GroupScale(float amax, float largest) {
    const float bounded = amax < 0x1p-100F ? 0x1p-100F : amax;
    scale = bounded / largest;
    inverse = largest / bounded;
  }
};

}  // namespace foretoken

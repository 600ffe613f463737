#pragma once
// The scale that serves a group of elements, the same on both devices to the bit.

#ifdef __CUDACC__
#define FORETOKEN_HOST_DEVICE __host__ __device__
#else
#define FORETOKEN_HOST_DEVICE
#endif

namespace foretoken {

struct GroupScale {
  float scale;    // what a product multiplies the group's numbers with
  float inverse;  // what they were multiplied with before they were rounded

  /// `amax` is the group's largest magnitude, `largest` the format's. Below 2⁻¹⁰⁰ the inverse would overflow;
  /// such numbers become zeros.
  FORETOKEN_HOST_DEVICE GroupScale(float amax, float largest) {
    const float bounded = amax < 0x1p-100F ? 0x1p-100F : amax;
    scale = bounded / largest;
    inverse = largest / bounded;
  }
};

}  // namespace foretoken

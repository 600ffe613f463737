#pragma once
// The scale of a group of elements. Both devices compute the same bits.

#ifdef __CUDACC__
#define FORETOKEN_HOST_DEVICE __host__ __device__
#else
#define FORETOKEN_HOST_DEVICE
#endif

namespace foretoken {

struct GroupScale {
  float scale;    // the factor that a product applies to the group's numbers
  float inverse;  // the factor applied to the elements before rounding

  /// `amax` is the group's largest magnitude, `largest` the format's. Below 2⁻¹⁰⁰ the inverse would overflow;
  /// such groups become zeros.
  FORETOKEN_HOST_DEVICE GroupScale(float amax, float largest) {
    const float bounded = amax < 0x1p-100F ? 0x1p-100F : amax;
    scale = bounded / largest;
    inverse = largest / bounded;
  }
};

}  // namespace foretoken

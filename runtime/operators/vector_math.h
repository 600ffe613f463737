#pragma once
// exp that compilers vectorise: the standard library's is a call for each element.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace foretoken::cpu {

/// e^x to 2 ulp on [−87, 88]; smaller x give e^−87 (about 1e−38), larger ones e^88.
/// x = n·ln 2 + r, |r| ≤ ln 2 / 2, e^r by a polynomial of degree 6 (Cephes' expf coefficients).
inline float exp(float x) {
  x = std::min(std::max(x, -87.0F), 88.0F);
  const float shifted = x * 1.44269504F + 12582912.0F;  // 1.5·2²³: rounds to the nearest integer
  const float n = shifted - 12582912.0F;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  return p * std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
}

inline double exp(double x) {
  return std::exp(x);
}

}  // namespace foretoken::cpu

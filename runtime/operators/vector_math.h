#pragma once
// exp and erf in a form that compilers vectorise. The standard library's functions need a call per element.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace foretoken::cpu {

/// eˣ to 2 ulp on [−87, 88]. Returns e⁻⁸⁷ (about 2e−38) below and e⁸⁸ above this range. Splits x = n·ln 2 + r
/// with |r| ≤ ln 2 / 2 and computes eʳ by a polynomial of degree 7 (coefficients of Cephes' expf).
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

/// eˣ to 2 ulp on [−708, 709]. Returns 0 below and e⁷⁰⁹ above this range. Splits x as the float version does
/// and computes eʳ by its series up to r¹³/13!, whose remainder is 4e−18.
inline double exp(double x) {
  const double within = std::min(std::max(x, -708.0), 709.0);
  const double shifted = within * 1.4426950408889634 + 6755399441055744.0;  // 1.5·2⁵²
  const double n = shifted - 6755399441055744.0;
  const double r = (within - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6;
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r * r + r + 1.0;
  // The low bits of `shifted` are n.
  const double power = std::bit_cast<double>((std::bit_cast<std::uint64_t>(shifted) + 1023) << 52);
  return x < -708.0 ? 0.0 : p * power;
}

/// erf(x) with an absolute error of 2e−7. For |x| < 1 by its series 2/√π · Σₙ (−1)ⁿ x²ⁿ⁺¹ / (n! (2n + 1)) up
/// to n = 9, else by Abramowitz & Stegun, "Handbook of mathematical functions", 7.1.26.
inline float erf(float x) {
  const float y = x * x;
  float series = -1.0F / 6894720.0F;
  series = series * y + 1.0F / 685440.0F;
  series = series * y - 1.0F / 75600.0F;
  series = series * y + 1.0F / 9360.0F;
  series = series * y - 1.0F / 1320.0F;
  series = series * y + 1.0F / 216.0F;
  series = series * y - 1.0F / 42.0F;
  series = series * y + 1.0F / 10.0F;
  series = series * y - 1.0F / 3.0F;
  series = (series * y + 1.0F) * x * 1.12837917F;

  const float t = 1.0F / (1.0F + 0.3275911F * std::abs(x));
  float tail = 1.061405429F;
  tail = tail * t - 1.453152027F;
  tail = tail * t + 1.421413741F;
  tail = tail * t - 0.284496736F;
  tail = tail * t + 0.254829592F;
  tail = std::copysign(1.0F - tail * t * exp(-y), x);
  return y < 1.0F ? series : tail;
}

inline double erf(double x) {
  return std::erf(x);
}

}  // namespace foretoken::cpu

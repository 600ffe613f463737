#pragma once
// AdamW's stochastic rounding of moments to bf16, in integer arithmetic so that every device returns the same
// bits.

#include <cstdint>

namespace foretoken {

/// Returns 32 uniform bits, the lower half for m and the upper half for v: a hash of t and of the bits of g,
/// p, m and v before step t (xxHash32's primes as odd factors, MurmurHash3's finaliser).
constexpr std::uint32_t adamw_dither(std::uint32_t step, std::uint32_t gradient, std::uint32_t value,
                                     std::uint16_t exp_avg, std::uint16_t exp_avg_sq) {
  const std::uint32_t moments = static_cast<std::uint32_t>(exp_avg_sq) << 16 | exp_avg;
  std::uint32_t x = gradient * 0x9e3779b1 + value * 0x85ebca77 + moments * 0xc2b2ae3d + step * 0x27d4eb2f;
  x = (x ^ (x >> 16)) * 0x85ebca6b;
  x = (x ^ (x >> 13)) * 0xc2b2ae35;
  return x ^ (x >> 16);
}

/// Rounds a float to bf16 stochastically. Takes the float's bits and returns the bf16's bits. The probability
/// of rounding away from zero is the truncated fraction, so the mean over all dithers equals the float. Only
/// the lower 16 bits of dither are used. A NaN stays a NaN.
constexpr std::uint16_t stochastic_bf16(std::uint32_t word, std::uint32_t dither) {
  const bool nan = (word & 0x7fffffffU) > 0x7f800000U;
  return static_cast<std::uint16_t>(nan ? word >> 16 | 0x40U : (word + (dither & 0xffffU)) >> 16);
}

}  // namespace foretoken

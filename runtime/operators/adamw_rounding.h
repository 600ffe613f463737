#pragma once
// How AdamW rounds its moments to bf16, in integers: the same bits on every device.

#include <cstdint>

namespace foretoken {

/// 32 uniform bits, the lower half for m and the upper for v: a hash of the bits of g, p, m and v before step
/// t (xxHash32's primes as odd factors, MurmurHash3's finaliser).
constexpr std::uint32_t adamw_dither(std::uint32_t step, std::uint32_t gradient, std::uint32_t value,
                                     std::uint16_t exp_avg, std::uint16_t exp_avg_sq) {
  const std::uint32_t moments = static_cast<std::uint32_t>(exp_avg_sq) << 16 | exp_avg;
  std::uint32_t x = gradient * 0x9e3779b1 + value * 0x85ebca77 + moments * 0xc2b2ae3d + step * 0x27d4eb2f;
  x = (x ^ (x >> 16)) * 0x85ebca6b;
  x = (x ^ (x >> 13)) * 0xc2b2ae35;
  return x ^ (x >> 16);
}

/// The bf16 that a float is rounded to at random, both as bits: away from zero with a probability of what
/// would be cut off, so that over all dithers, of which the lower 16 bits count, the mean is the float
/// itself. A NaN stays one.
constexpr std::uint16_t stochastic_bf16(std::uint32_t word, std::uint32_t dither) {
  const bool nan = (word & 0x7fffffffU) > 0x7f800000U;
  return static_cast<std::uint16_t>(nan ? word >> 16 | 0x40U : (word + (dither & 0xffffU)) >> 16);
}

}  // namespace foretoken

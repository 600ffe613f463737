#pragma once
// 8-bit floating point on the host (Micikevicius et al., "FP8 formats for deep learning", arXiv 2209.05433),
// rounded as a GPU's saturating conversion rounds: to nearest, ties to even. Magnitudes above the largest
// finite number, infinity included, become that number; a NaN stays a NaN.
//
//   e4m3  1 sign, 4 exponent, 3 mantissa bits, bias 7, largest 448, no infinity
//   e5m2  1 sign, 5 exponent, 2 mantissa bits, bias 15, largest 57344

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace foretoken {

template <int exponent_bits, int mantissa_bits>
struct Float8 {
  static constexpr int bias = (1 << (exponent_bits - 1)) - 1;
  static constexpr float largest = exponent_bits == 4 ? 448.0F : 57344.0F;

  std::uint8_t bits = 0;

  Float8() = default;
  explicit Float8(float value) {
    const auto sign = static_cast<std::uint8_t>(std::signbit(value) ? 0x80 : 0);
    if (std::isnan(value)) {
      bits = 0x7f;
      return;
    }
    const float magnitude = std::min(std::fabs(value), largest);
    // Subnormal numbers are multiples of the spacing at the smallest normal number.
    const int exponent = magnitude == 0 ? 1 - bias : std::max(std::ilogb(magnitude), 1 - bias);
    // Number of spacings at this exponent, exact in a float; a carry increments the exponent.
    const auto steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, mantissa_bits - exponent)));
    const int code = steps + ((exponent + bias - 1) << mantissa_bits);
    bits = static_cast<std::uint8_t>(sign | code);
  }
  explicit operator float() const {
    const int code = bits & 0x7f, mantissa = code & ((1 << mantissa_bits) - 1),
              exponent = code >> mantissa_bits;
    const bool nan = exponent_bits == 4 ? code == 0x7f : code > 0x7c;
    float value = std::numeric_limits<float>::quiet_NaN();
    if (!nan && exponent_bits == 5 && code == 0x7c)
      value = std::numeric_limits<float>::infinity();
    else if (!nan)
      value = exponent == 0
                  ? std::ldexp(float(mantissa), 1 - bias - mantissa_bits)
                  : std::ldexp(float(mantissa + (1 << mantissa_bits)), exponent - bias - mantissa_bits);
    return (bits & 0x80) != 0 ? -value : value;
  }
};

using Float8E4M3 = Float8<4, 3>;
using Float8E5M2 = Float8<5, 2>;

}  // namespace foretoken

#pragma once
// How the elements of a matrix in 8-bit floating point share scales (runtime/quantized_tensor.h).

#include <cstdint>

namespace foretoken {

/// | scaling   | elements of one scale  | scales of a matrix [R, K]                      |
/// |-----------|------------------------|------------------------------------------------|
/// | tensor    | the whole matrix       | [2]: the scale; the second element is scratch  |
/// | vector128 | 128 elements of a row  | [K/128, R]                                     |
/// | block128  | 128 rows × 128 columns | [R/128, K/128 rounded up to a multiple of 4]   |
///
/// Sources: tensor, arXiv 2209.05433; vector128 and block128, DeepSeek-V3, arXiv 2412.19437, 3.3.2.
enum class Scaling : std::uint8_t { tensor, vector128, block128 };

}  // namespace foretoken

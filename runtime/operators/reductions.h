#pragma once
// Reductions over a whole buffer.

#include <cstdint>

#include "runtime/stream.h"

namespace foretoken {

/// Σ xᵢ² in fp64. The order of the sum does not depend on the number of threads.
double sum_of_squares(Stream& stream, const Tensor& x);

/// A checksum of the bits: Σᵢ mix64(bitsᵢ + mix64(i)) mod 2⁶⁴. Order-free, so a GPU computes the same number.
/// Equal tensors have equal checksums; a changed, moved or swapped element changes it.
std::uint64_t checksum(Stream& stream, const Tensor& x);

}  // namespace foretoken

#pragma once
// Reductions over a whole buffer.

#include <cstdint>

#include "runtime/stream.h"

namespace foretoken {

/// sum += Σ xᵢ² in fp64. The order of the sum depends on the number of elements alone.
struct SumOfSquares {
  Tensor x;
  Tensor sum;  // [1] f64 +=
};
void sum_of_squares(Stream& stream, const SumOfSquares& op);

/// sum += Σ xᵢ·yᵢ in fp64, in the order of sum_of_squares().
struct InnerProduct {
  Tensor x, y;  // of one dtype and as many elements
  Tensor sum;   // [1] f64 +=
};
void inner_product(Stream& stream, const InnerProduct& op);

/// What gradients are multiplied with so that their global norm stays within a limit:
///
///   scale = min(1, limit / (√sum + 1e-6))     (PyTorch's clip_grad_norm_); 1 where limit is 0
///
/// and NaN where the sum is not finite, so that an optimizer leaves everything as it was.
struct ClipScale {
  Tensor sum;  // [1] f64, Σ g² over all gradients of the model
  double limit = 0;
  Tensor scale;  // [1] f64 =
};
void clip_scale(Stream& stream, const ClipScale& op);

/// A checksum of the bits: Σᵢ mix64(bitsᵢ + mix64(i)) mod 2⁶⁴. Order-free, so a GPU computes the same number.
/// Equal tensors have equal checksums; a changed, moved or swapped element changes it. Waits for the result.
std::uint64_t checksum(Stream& stream, const Tensor& x);

namespace cpu {
void sum_of_squares(Stream& stream, const SumOfSquares& op);
void inner_product(Stream& stream, const InnerProduct& op);
void clip_scale(Stream& stream, const ClipScale& op);
std::uint64_t checksum(Stream& stream, const Tensor& x);
}  // namespace cpu
namespace cuda {
void sum_of_squares(Stream& stream, const SumOfSquares& op);
void inner_product(Stream& stream, const InnerProduct& op);
void clip_scale(Stream& stream, const ClipScale& op);
std::uint64_t checksum(Stream& stream, const Tensor& x);
}  // namespace cuda

}  // namespace foretoken

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

/// sum becomes NaN where an element of x is not finite; else it stays as it is.
struct MarkNotFinite {
  Tensor x;    // f64
  Tensor sum;  // [1] f64
};
void mark_not_finite(Stream& stream, const MarkNotFinite& op);

/// 64 bits that differ, but for a chance of 2⁻⁶⁴, where any bit of x differs. Only comparable between calls
/// on one device for one number of elements. Enqueued: nothing waits.
struct Fingerprint {
  Tensor x;
  Tensor bits;  // [1] i64 =
};
void fingerprint(Stream& stream, const Fingerprint& op);

/// A checksum of the bits: Σᵢ mix64(bitsᵢ + mix64(i)) mod 2⁶⁴. Order-free, so a GPU computes the same number.
/// Equal tensors have equal checksums; a changed, moved or swapped element changes it. Waits for the result.
std::uint64_t checksum(Stream& stream, const Tensor& x);

namespace cpu {
void sum_of_squares(Stream& stream, const SumOfSquares& op);
void inner_product(Stream& stream, const InnerProduct& op);
void clip_scale(Stream& stream, const ClipScale& op);
void mark_not_finite(Stream& stream, const MarkNotFinite& op);
void fingerprint(Stream& stream, const Fingerprint& op);
std::uint64_t checksum(Stream& stream, const Tensor& x);
}  // namespace cpu
namespace cuda {
void sum_of_squares(Stream& stream, const SumOfSquares& op);
void inner_product(Stream& stream, const InnerProduct& op);
void clip_scale(Stream& stream, const ClipScale& op);
void mark_not_finite(Stream& stream, const MarkNotFinite& op);
void fingerprint(Stream& stream, const Fingerprint& op);
std::uint64_t checksum(Stream& stream, const Tensor& x);
}  // namespace cuda

}  // namespace foretoken

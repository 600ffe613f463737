#pragma once
// Reductions over a whole buffer.

#include <cstdint>

#include "runtime/stream.h"

namespace foretoken {

/// sum += Σ xᵢ² in fp64. The order of the sum depends only on the number of elements.
struct SumOfSquares {
  Tensor x;
  Tensor sum;  // [1] f64 +=
};
void sum_of_squares(Stream& stream, const SumOfSquares& op);

/// sum += Σ xᵢ·yᵢ in fp64, in the order of sum_of_squares().
struct InnerProduct {
  Tensor x, y;  // same dtype and number of elements
  Tensor sum;   // [1] f64 +=
};
void inner_product(Stream& stream, const InnerProduct& op);

/// The factor that clips gradients to a limit of their global norm:
///
///   scale = min(1, limit / (√sum + 1e-6))     (PyTorch's clip_grad_norm_); 1 if limit is 0
///
/// and NaN if the sum is not finite, so that an optimizer skips the step.
struct ClipScale {
  Tensor sum;  // [1] f64, Σ g² over all gradients of the model
  double limit = 0;
  Tensor scale;  // [1] f64 =
};
void clip_scale(Stream& stream, const ClipScale& op);

/// Sets sum to NaN if an element of x is not finite; otherwise sum does not change.
struct MarkNotFinite {
  Tensor x;    // f64
  Tensor sum;  // [1] f64
};
void mark_not_finite(Stream& stream, const MarkNotFinite& op);

/// A 64-bit fingerprint of x: different tensors have the same one with a probability of 2⁻⁶⁴. Comparable only
/// between calls on one kind of device with the same number of elements. Asynchronous.
struct Fingerprint {
  Tensor x;
  Tensor bits;  // [1] i64 =
};
void fingerprint(Stream& stream, const Fingerprint& op);

/// A checksum of the bits: Σᵢ mix64(bitsᵢ + mix64(i)) mod 2⁶⁴. The sum's order does not matter, so a GPU
/// computes the same number. Equal tensors have equal checksums; a changed, moved or swapped element changes
/// it. Waits for the result.
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

#pragma once
// Reductions over a whole buffer. A tensor marked "=" is overwritten, one marked "+=" is added to; the others
// are read.

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

/// The factor that clips gradients by their global norm:
///
///   scale = min(1, limit / (√sum + 1e-6))     (as PyTorch's clip_grad_norm_)
///
/// 1 if limit is 0, and NaN if the sum is not finite, so that an optimizer skips the step.
struct ClipScale {
  Tensor sum;  // [1] f64, Σ g² over all gradients of the model
  double limit = 0;
  Tensor scale;  // [1] f64 =
};
void clip_scale(Stream& stream, const ClipScale& op);

/// Sets sum to NaN if an element of x is not finite. Otherwise sum does not change.
struct MarkNotFinite {
  Tensor x;    // f64
  Tensor sum;  // [1] f64, updated
};
void mark_not_finite(Stream& stream, const MarkNotFinite& op);

/// A 64-bit hash of the bits of x. Two tensors that differ by accident have equal hashes with a probability
/// of about 2⁻⁶⁴. A CPU and a GPU use different hashes: compare only results of one kind of device, for equal
/// numbers of elements. On a GPU the result is valid after the host has waited for the stream.
struct Fingerprint {
  Tensor x;
  Tensor bits;  // [1] i64 =
};
void fingerprint(Stream& stream, const Fingerprint& op);

/// Returns the same hash. Waits for the result.
std::int64_t fingerprint_of(Stream& stream, const Tensor& x);

namespace cpu {
void sum_of_squares(Stream& stream, const SumOfSquares& op);
void inner_product(Stream& stream, const InnerProduct& op);
void clip_scale(Stream& stream, const ClipScale& op);
void mark_not_finite(Stream& stream, const MarkNotFinite& op);
void fingerprint(Stream& stream, const Fingerprint& op);
std::int64_t fingerprint_of(Stream& stream, const Tensor& x);
}  // namespace cpu
namespace cuda {
void sum_of_squares(Stream& stream, const SumOfSquares& op);
void inner_product(Stream& stream, const InnerProduct& op);
void clip_scale(Stream& stream, const ClipScale& op);
void mark_not_finite(Stream& stream, const MarkNotFinite& op);
void fingerprint(Stream& stream, const Fingerprint& op);
std::int64_t fingerprint_of(Stream& stream, const Tensor& x);
}  // namespace cuda

}  // namespace foretoken

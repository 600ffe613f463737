#pragma once
// Rounds matrices to 8-bit floating point with scales (runtime/quantized_tensor.h).
//
// Scales are computed from the current values, not from earlier steps. The tensor cores read both operands
// along rows, so a matrix that is also an operand in transposed form is stored twice; one pass over its
// elements writes both copies. A tensor marked "=" is overwritten; the others are read.

#include <variant>
#include <vector>

#include "runtime/quantized_tensor.h"
#include "runtime/stream.h"

namespace foretoken {

/// A matrix whose largest magnitude the operator that wrote it has already computed.
struct TensorWithAmax {
  Tensor x;     // [R, K]
  Tensor amax;  // [1] f32
};
/// SwiGLU's output (swiglu.h) [N, F].
struct SwigluOutput {
  Tensor gate_up;  // [N, 2F]
};
/// The gradient of SwiGLU's input [N, 2F].
struct SwigluInputGradient {
  Tensor dout;     // [N, F]
  Tensor gate_up;  // [N, 2F]
};
/// The matrix to quantize [R, K], f32 or bf16. SwiGLU's results are rounded to their dtype as in swiglu.h and
/// quantized without being stored.
using QuantizeSource = std::variant<Tensor, TensorWithAmax, SwigluOutput, SwigluInputGradient>;
/// Returns [R, K]. DefectError if the source's tensors are not matrices of matching shapes.
Shape shape_of(const QuantizeSource& source);

struct Quantize {
  QuantizeSource x;
  QuantizedTensor out;         // [R, K] =, optional
  QuantizedTensor transposed;  // xᵀ [K, R] =, optional; same format and scaling as out
};
void quantize(Stream& stream, const Quantize& op);

namespace cpu {
void quantize(Stream& stream, const Quantize& op);
/// Returns data · scale for every element.
std::vector<float> dequantized(Stream& stream, const QuantizedTensor& tensor);
}  // namespace cpu
namespace cuda {
void quantize(Stream& stream, const Quantize& op);
}  // namespace cuda

}  // namespace foretoken

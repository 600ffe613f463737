#pragma once
// Matrices in 8-bit floating point with scales, in the layouts that the tensor cores multiply.
//
//   value[r, k] ≈ data[r, k] · scale
//   scale = largest magnitude of its elements / largest number of the format
//
// | scaling   | elements of one scale  | scales                                         |
// |-----------|------------------------|------------------------------------------------|
// | tensor    | the whole matrix       | [2]: the scale; the second element is scratch  |
// | vector128 | 128 elements of a row  | [K/128, R]                                     |
// | block128  | 128 rows × 128 columns | [⌈R/128⌉, K/128 rounded up to a multiple of 4] |
//
// Sources: tensor, arXiv 2209.05433; vector128 and block128, DeepSeek-V3, arXiv 2412.19437, 3.3.2.
//
// Scales are computed from the current values, not from earlier steps. The tensor cores read both operands
// along rows, so a matrix that is also an operand in transposed form is stored twice; one pass over its
// elements writes both copies. R and K are multiples of 16. vector128 requires K to be a multiple of 128,
// block128 both R and K. Marks: "=" overwritten, other tensors are read.

#include <variant>

#include "runtime/arena.h"
#include "runtime/stream.h"

namespace foretoken {

enum class Scaling : std::uint8_t { tensor, vector128, block128 };

struct QuantizedTensor {
  Tensor data;    // [R, K] f8e4m3 or f8e5m2
  Tensor scales;  // f32, see above
  Scaling scaling = Scaling::tensor;

  bool defined() const { return data.defined(); }
};

/// Allocates a matrix [rows, columns] of this format and scaling from the arena.
QuantizedTensor plan_quantized(Arena& arena, DType format, std::int64_t rows, std::int64_t columns,
                               Scaling scaling);

/// Returns a matrix of this format and scaling over existing memory, which must be large enough.
QuantizedTensor quantized_over(const Tensor& bytes, const Tensor& scales, DType format, std::int64_t rows,
                               std::int64_t columns, Scaling scaling);

/// A matrix whose largest magnitude the operator that wrote it has already computed.
struct MeasuredTensor {
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
using QuantizeSource = std::variant<Tensor, MeasuredTensor, SwigluOutput, SwigluInputGradient>;
/// Returns [R, K]. DefectError if the source's tensors are not matrices of matching shapes.
Shape shape_of(const QuantizeSource& source);

struct Quantize {
  QuantizeSource x;
  QuantizedTensor out;         // [R, K] =, optional
  QuantizedTensor transposed;  // xᵀ [K, R] =, optional; same format and scaling as out
};
void quantize(Stream& stream, const Quantize& op);

/// out[M, N] = a · bᵀ (+ addend), accumulated in fp32. If out is bf16, a GPU rounds the product, adds the
/// addend, and rounds the sum. The three products of a linear layer:
///   forward         a = x [N, I],      b = W [O, I]
///   backward_input  a = dout [N, O],   b = Wᵀ [I, O]
///   backward_weight a = doutᵀ [O, N],  b = xᵀ [I, N], addend = out = dW
struct QuantizedProduct {
  QuantizedTensor a;  // [M, K]
  QuantizedTensor b;  // [N, K]; a and b must not both be e5m2 or both block128
  Tensor addend;      // [M, N], optional; may be out
  Tensor out;         // [M, N] bf16 or f32 =
  /// With tensor scaling only: accumulates all of K in the tensor cores' own precision, about 14 bits, which
  /// is faster.
  bool fast_accumulation = false;
};
void quantized_product(Stream& stream, const QuantizedProduct& op);

namespace cpu {
void quantize(Stream& stream, const Quantize& op);
void quantized_product(Stream& stream, const QuantizedProduct& op);
}  // namespace cpu
namespace cuda {
void quantize(Stream& stream, const Quantize& op);
void quantized_product(Stream& stream, const QuantizedProduct& op);
}  // namespace cuda

}  // namespace foretoken

#pragma once
// Matrices in 8-bit floating point with their scales, as the tensor cores multiply them.
//
//   value[r, k] ≈ data[r, k] · scale,   scale = largest magnitude it serves / largest number of the format
//
// | scaling   | one scale serves         | scales                                        | source |
// |-----------|--------------------------|-----------------------------------------------|--------|
// | tensor    | the whole matrix         | [2]: the scale, the largest magnitude         | arXiv 2209.05433 |
// | vector128 | 128 elements of a row    | [K/128, R]                                    | DeepSeek-V3, arXiv
// 2412.19437, 3.3.2 | | block128  | 128 rows × 128 columns   | [⌈R/128⌉, K/128 rounded up to a multiple of 4]
// | the same |
//
// Scales come from the current values, not from those of earlier steps. A product reads both of its operands
// along rows, so a matrix that enters products in both directions is kept twice, as itself and transposed;
// one pass over its elements writes both. R and K are multiples of 16, of 128 along a vector128's rows and in
// both directions of a block128.

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

/// Takes a matrix [rows, columns] of that format from the arena.
QuantizedTensor plan_quantized(Arena& arena, DType format, std::int64_t rows, std::int64_t columns,
                               Scaling scaling);

/// A matrix of that kind over memory for bytes and for scales that is at least as large.
QuantizedTensor quantized_over(const Tensor& bytes, const Tensor& scales, DType format, std::int64_t rows,
                               std::int64_t columns, Scaling scaling);

/// A matrix whose largest magnitude its producer found.
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
/// The matrix to quantize [R, K], f32 or bf16. What SwiGLU computes is rounded to its dtype as swiglu.h does,
/// and quantized without being stored.
using QuantizeSource = std::variant<Tensor, MeasuredTensor, SwigluOutput, SwigluInputGradient>;
/// [R, K]; DefectError where the source's tensors are no matrices that fit.
Shape shape_of(const QuantizeSource& source);

struct Quantize {
  QuantizeSource x;
  QuantizedTensor out;         // [R, K] =, optional
  QuantizedTensor transposed;  // [K, R] =, optional; of out's format and scaling
};
void quantize(Stream& stream, const Quantize& op);

/// out[M, N] = a · bᵀ (+ addend), sums taken in fp32. A linear layer's three products:
///   forward         a = x [N, I],      b = W [O, I]
///   backward_input  a = dout [N, O],   b = Wᵀ [I, O]
///   backward_weight a = doutᵀ [O, N],  b = xᵀ [I, N], addend = out = dW
struct QuantizedProduct {
  QuantizedTensor a;  // [M, K]
  QuantizedTensor b;  // [N, K]; not both of e5m2, not both block128
  Tensor addend;      // [M, N], optional; may be out
  Tensor out;         // [M, N] bf16 or f32 =
  /// With tensor scales: partial sums stay in the tensor cores' own precision (about 14 bits) for all of K.
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

#pragma once
// Products of matrices in 8-bit floating point (runtime/quantized_tensor.h). A tensor marked "=" is
// overwritten; the others are read.

#include "runtime/quantized_tensor.h"
#include "runtime/stream.h"

namespace foretoken {

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
void quantized_product(Stream& stream, const QuantizedProduct& op);
}  // namespace cpu
namespace cuda {
void quantized_product(Stream& stream, const QuantizedProduct& op);
}  // namespace cuda

}  // namespace foretoken

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
// | block128  | 128 rows × 128 columns | [R/128, K/128 rounded up to a multiple of 4]   |
//
// Sources: tensor, arXiv 2209.05433; vector128 and block128, DeepSeek-V3, arXiv 2412.19437, 3.3.2.
//
// R and K are multiples of 16. vector128 requires K to be a multiple of 128, block128 both R and K.

#include <cstdint>

#include "runtime/arena.h"
#include "runtime/tensor.h"

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
                               Scaling scaling, MemoryKind kind = MemoryKind::activations);

/// Returns a matrix of this format and scaling over existing memory, which must be large enough.
QuantizedTensor quantized_over(const Tensor& bytes, const Tensor& scales, DType format, std::int64_t rows,
                               std::int64_t columns, Scaling scaling);

/// Throws a DefectError, with `who` as the operator, unless data is an 8-bit matrix [rows, columns] and
/// scales has the shape that its scaling requires.
void require_quantized(const char* who, const QuantizedTensor& tensor, std::int64_t rows,
                       std::int64_t columns);

}  // namespace foretoken

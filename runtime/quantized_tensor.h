#pragma once
// Matrices in 8-bit floating point with scales, in the layouts that the tensor cores multiply.
//
//   value[r, k] ≈ data[r, k] · scale
//   scale = largest magnitude of its elements / largest number of the format
//
// R and K are multiples of 16. vector128 requires K to be a multiple of 128, block128 both R and K.

#include <cstdint>

#include "runtime/arena.h"
#include "runtime/scaling.h"
#include "runtime/tensor.h"

namespace foretoken {

struct QuantizedTensor {
  Tensor data;    // [R, K] f8e4m3 or f8e5m2
  Tensor scales;  // f32, shape as in scaling.h
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

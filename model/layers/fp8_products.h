#pragma once
// State shared by a rank's matrix products in FP8: the recipe, 8-bit copies of the weights, and memory for
// the 8-bit copy of one operand. Master weights, accumulated gradients and all other tensors keep their
// dtypes.
//
//   Recipe   activations, gradients            weights                      source
//   tensor   e4m3, e5m2; one scale per tensor  e4m3, one scale per matrix   arXiv 2209.05433
//   block    e4m3, a scale per 1 × 128         e4m3, a scale per 128 × 128  DeepSeek-V3, arXiv 2412.19437
//
// A scale is computed from the largest magnitude of the tensor or block that it scales. Section 3.3.2 of the
// DeepSeek-V3 report describes the recipe "block".

#include <vector>

#include "model/config.h"
#include "runtime/arena.h"
#include "runtime/operators/rowwise/quantize.h"

namespace foretoken {

class Fp8Products {
 public:
  Fp8Products(Arena& arena, const Fp8Config& config, std::int64_t layers)
      : arena_(arena), config_(config), layers_(layers) {}

  /// Whether the products of this trunk layer, 0 … layers − 1, run in FP8.
  bool covers(std::int64_t layer) const {
    return layer >= config_.first_layers_bf16 && layer < layers_ - config_.last_layers_bf16;
  }

  struct WeightCopies {
    QuantizedTensor rows;     // W  [O, I], for forward
    QuantizedTensor columns;  // Wᵀ [I, O], for the input's gradient
  };
  /// Plans the 8-bit copies of a weight [O, I] that multiplies `tokens` rows. Layers that share a weight
  /// share its copies.
  WeightCopies plan_weight(const Tensor& weight, std::int64_t tokens);
  // Plan the operands of a weight's gradient: xᵀ [I, N], kept from forward, and doutᵀ [O, N], kept from
  // backward_input.
  QuantizedTensor plan_input(std::int64_t width, std::int64_t tokens);
  QuantizedTensor plan_gradient(std::int64_t width, std::int64_t tokens);
  /// Call after all weights are planned.
  void plan_scratch();

  /// Call after the weights change.
  void quantize_weights(Stream& stream) const;
  /// Returns x [N, I] in 8 bits, for forward, and stores xᵀ in `transposed` if it is defined. The result is
  /// valid until the next call of this or the next function.
  QuantizedTensor quantize_input(Stream& stream, const QuantizeSource& x,
                                 const QuantizedTensor& transposed) const;
  /// Returns dout [N, O] in 8 bits, for backward_input, and stores doutᵀ in `transposed`.
  QuantizedTensor quantize_gradient(Stream& stream, const QuantizeSource& dout,
                                    const QuantizedTensor& transposed) const;
  /// [1] f32: the operator that computes the next matrix to quantize stores the largest magnitude here.
  /// Undefined if the recipe does not need it.
  const Tensor& amax() const { return amax_; }
  /// Forward may accumulate in the tensor cores' own precision; gradients accumulate in fp32.
  bool fast_forward() const { return config_.recipe == Fp8Recipe::tensor; }

 private:
  Scaling scaling_of_values() const {
    return config_.recipe == Fp8Recipe::tensor ? Scaling::tensor : Scaling::vector128;
  }
  DType gradient_format() const {
    return config_.recipe == Fp8Recipe::tensor ? DType::f8e5m2 : DType::f8e4m3;
  }
  QuantizedTensor quantize_rows(Stream& stream, const QuantizeSource& x, DType format,
                                const QuantizedTensor& transposed) const;

  struct Planned {
    Tensor weight;
    WeightCopies copies;
  };
  Arena& arena_;
  Fp8Config config_;
  std::int64_t layers_;
  std::vector<Planned> weights_;
  std::int64_t largest_ = 0;  // elements of an operand [N, I] or [N, O]
  Tensor scratch_, scratch_scales_, amax_;
};

}  // namespace foretoken

#include "model/layers/fp8_products.h"

#include <algorithm>

namespace foretoken {

Fp8Products::WeightCopies Fp8Products::plan_weight(const Tensor& weight, std::int64_t tokens) {
  const std::int64_t o = weight.shape[0], i = weight.shape[1];
  largest_ = std::max(largest_, tokens * std::max(i, o));
  for (const Planned& planned : weights_)
    if (planned.weight.data == weight.data) return planned.copies;
  const Scaling scaling = config_.recipe == Fp8Recipe::tensor ? Scaling::tensor : Scaling::block128;
  weights_.push_back(
      {weight,
       {.rows = plan_quantized(arena_, DType::f8e4m3, o, i, scaling, MemoryKind::weights),
        .columns = plan_quantized(arena_, DType::f8e4m3, i, o, scaling, MemoryKind::weights)}});
  return weights_.back().copies;
}

QuantizedTensor Fp8Products::plan_input(std::int64_t width, std::int64_t tokens) {
  return plan_quantized(arena_, DType::f8e4m3, width, tokens, scaling_of_values());
}

QuantizedTensor Fp8Products::plan_gradient(std::int64_t width, std::int64_t tokens) {
  return plan_quantized(arena_, gradient_format(), width, tokens, scaling_of_values());
}

void Fp8Products::plan_scratch() {
  scratch_ = arena_.tensor(DType::u8, {largest_}, MemoryKind::workspace);
  if (config_.recipe == Fp8Recipe::tensor) amax_ = arena_.tensor(DType::f32, {1}, MemoryKind::workspace);
  scratch_scales_ =
      arena_.tensor(DType::f32, {std::max<std::int64_t>(2, largest_ / 128)}, MemoryKind::workspace);
}

void Fp8Products::quantize_weights(Stream& stream) const {
  for (const Planned& planned : weights_)
    quantize(stream, {.x = planned.weight, .out = planned.copies.rows, .transposed = planned.copies.columns});
}

QuantizedTensor Fp8Products::quantize_input(Stream& stream, const QuantizeSource& x,
                                            const QuantizedTensor& transposed) const {
  return quantize_rows(stream, x, DType::f8e4m3, transposed);
}

QuantizedTensor Fp8Products::quantize_gradient(Stream& stream, const QuantizeSource& dout,
                                               const QuantizedTensor& transposed) const {
  return quantize_rows(stream, dout, gradient_format(), transposed);
}

QuantizedTensor Fp8Products::quantize_rows(Stream& stream, const QuantizeSource& x, DType format,
                                           const QuantizedTensor& transposed) const {
  QuantizeSource source = x;
  const auto as_matrix = [](Tensor& tensor) {
    const std::int64_t width = tensor.shape[tensor.shape.rank() - 1];
    tensor = tensor.view({tensor.elements() / width, width});
  };
  if (auto* stored = std::get_if<Tensor>(&source)) as_matrix(*stored);
  if (auto* with_amax = std::get_if<TensorWithAmax>(&source)) as_matrix(with_amax->x);
  const Shape shape = shape_of(source);
  const QuantizedTensor out =
      quantized_over(scratch_, scratch_scales_, format, shape[0], shape[1], scaling_of_values());
  quantize(stream, {.x = source, .out = out, .transposed = transposed});
  return out;
}

}  // namespace foretoken

#include "runtime/quantized_tensor.h"

#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr std::int64_t block = 128;

std::int64_t rounded_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

Shape scales_shape(std::int64_t rows, std::int64_t columns, Scaling scaling) {
  switch (scaling) {
    case Scaling::tensor:
      return {2};
    case Scaling::vector128:
      return {columns / block, rows};
    case Scaling::block128:
      return {(rows + block - 1) / block, rounded_up(columns / block, 4)};
  }
  throw DefectError("quantize: scaling {} is unknown", static_cast<int>(scaling));
}

}  // namespace

QuantizedTensor plan_quantized(Arena& arena, DType format, std::int64_t rows, std::int64_t columns,
                               Scaling scaling, MemoryKind kind) {
  const bool blocks = scaling != Scaling::tensor;
  const std::int64_t row_multiple = scaling == Scaling::block128 ? block : 16;
  if (rows % row_multiple != 0 || columns % (blocks ? block : 16) != 0)
    throw DefectError("quantize: [{}, {}], multiples of {} and {} expected", rows, columns, row_multiple,
                      blocks ? block : 16);
  return {.data = arena.tensor(format, {rows, columns}, kind),
          .scales = arena.tensor(DType::f32, scales_shape(rows, columns, scaling), kind),
          .scaling = scaling};
}

QuantizedTensor quantized_over(const Tensor& bytes, const Tensor& scales, DType format, std::int64_t rows,
                               std::int64_t columns, Scaling scaling) {
  Tensor data = bytes.flat(0, rows * columns).view({rows, columns});
  data.dtype = format;
  const Shape shape = scales_shape(rows, columns, scaling);
  return {.data = data, .scales = scales.flat(0, shape.elements()).view(shape), .scaling = scaling};
}

void require_quantized(const char* who, const QuantizedTensor& tensor, std::int64_t rows,
                       std::int64_t columns) {
  const DType format = tensor.data.dtype;
  if (tensor.data.shape != Shape{rows, columns} || (format != DType::f8e4m3 && format != DType::f8e5m2) ||
      tensor.scales.dtype != DType::f32 || tensor.scales.shape != scales_shape(rows, columns, tensor.scaling))
    throw DefectError("{}: {} {} with scales {} is no quantized [{}, {}]", who, name_of(format),
                      to_string(tensor.data.shape), to_string(tensor.scales.shape), rows, columns);
}

}  // namespace foretoken

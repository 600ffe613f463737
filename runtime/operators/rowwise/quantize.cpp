#include "runtime/operators/rowwise/quantize.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

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

/// Throws a DefectError unless data is an 8-bit matrix [rows, columns] and scales has the shape that its
/// scaling requires.
void check(const char* who, const QuantizedTensor& tensor, std::int64_t rows, std::int64_t columns) {
  const DType format = tensor.data.dtype;
  if (tensor.data.shape != Shape{rows, columns} || (format != DType::f8e4m3 && format != DType::f8e5m2) ||
      tensor.scales.dtype != DType::f32 || tensor.scales.shape != scales_shape(rows, columns, tensor.scaling))
    throw DefectError("{}: {} {} with scales {} is no quantized [{}, {}]", who, name_of(format),
                      to_string(tensor.data.shape), to_string(tensor.scales.shape), rows, columns);
}

}  // namespace

Shape shape_of(const QuantizeSource& source) {
  const auto matrix = [](const char* what, const Tensor& tensor) {
    if (tensor.shape.rank() != 2)
      throw DefectError("quantize: {} {}, a matrix expected", what, to_string(tensor.shape));
    return tensor.shape;
  };
  if (const auto* x = std::get_if<Tensor>(&source)) return matrix("x", *x);
  if (const auto* measured = std::get_if<MeasuredTensor>(&source)) return matrix("x", measured->x);
  if (const auto* gated = std::get_if<SwigluOutput>(&source)) {
    const Shape shape = matrix("gate_up", gated->gate_up);
    return {shape[0], shape[1] / 2};
  }
  const auto& [dout, gate_up] = std::get<SwigluInputGradient>(source);
  const Shape shape = matrix("gate_up", gate_up);
  if (dout.shape != Shape{shape[0], shape[1] / 2} || dout.dtype != gate_up.dtype)
    throw DefectError("quantize: dout {} {} for gate_up {} {}, [{}, {}] of its dtype expected",
                      name_of(dout.dtype), to_string(dout.shape), name_of(gate_up.dtype),
                      to_string(gate_up.shape), shape[0], shape[1] / 2);
  return shape;
}

QuantizedTensor plan_quantized(Arena& arena, DType format, std::int64_t rows, std::int64_t columns,
                               Scaling scaling) {
  const bool blocks = scaling != Scaling::tensor;
  const std::int64_t row_multiple = scaling == Scaling::block128 ? block : 16;
  if (rows % row_multiple != 0 || columns % (blocks ? block : 16) != 0)
    throw DefectError("quantize: [{}, {}], multiples of {} and {} expected", rows, columns, row_multiple,
                      blocks ? block : 16);
  return {.data = arena.tensor(format, {rows, columns}),
          .scales = arena.tensor(DType::f32, scales_shape(rows, columns, scaling)),
          .scaling = scaling};
}

QuantizedTensor quantized_over(const Tensor& bytes, const Tensor& scales, DType format, std::int64_t rows,
                               std::int64_t columns, Scaling scaling) {
  Tensor data = bytes.flat(0, rows * columns).view({rows, columns});
  data.dtype = format;
  const Shape shape = scales_shape(rows, columns, scaling);
  return {.data = data, .scales = scales.flat(0, shape.elements()).view(shape), .scaling = scaling};
}

void quantize(Stream& stream, const Quantize& op) {
  const ProfileScope scope(stream, "quantize");
  const Shape shape = shape_of(op.x);
  const std::int64_t rows = shape[0], columns = shape[1];
  if (op.out.defined()) check("quantize", op.out, rows, columns);
  if (op.transposed.defined()) check("quantize", op.transposed, columns, rows);
  if (op.out.defined() && op.transposed.defined() &&
      (op.out.data.dtype != op.transposed.data.dtype || op.out.scaling != op.transposed.scaling))
    throw DefectError("quantize: out in {} and transposed in {}, one format and one scaling expected",
                      name_of(op.out.data.dtype), name_of(op.transposed.data.dtype));
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::quantize(stream, op);
  cpu::quantize(stream, op);
}

void quantized_product(Stream& stream, const QuantizedProduct& op) {
  const ProfileScope scope(stream, "quantized_product");
  const std::int64_t m = op.a.data.shape[0], k = op.a.data.shape[1], n = op.b.data.shape[0];
  check("quantized_product", op.a, m, k);
  check("quantized_product", op.b, n, k);
  if (op.out.elements() != m * n || (op.addend.defined() && op.addend.elements() != m * n))
    throw DefectError("quantized_product: a {}, b {}, out {} do not fit", to_string(op.a.data.shape),
                      to_string(op.b.data.shape), to_string(op.out.shape));
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::quantized_product(stream, op);
  cpu::quantized_product(stream, op);
}

}  // namespace foretoken

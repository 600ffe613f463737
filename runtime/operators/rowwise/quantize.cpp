#include "runtime/operators/rowwise/quantize.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

Shape shape_of(const QuantizeSource& source) {
  const auto matrix = [](const char* what, const Tensor& tensor) {
    if (tensor.shape.rank() != 2)
      throw DefectError("quantize: {} {}, a matrix expected", what, to_string(tensor.shape));
    return tensor.shape;
  };
  if (const auto* x = std::get_if<Tensor>(&source)) return matrix("x", *x);
  if (const auto* with_amax = std::get_if<TensorWithAmax>(&source)) return matrix("x", with_amax->x);
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

void quantize(Stream& stream, const Quantize& op) {
  const ProfileScope scope(stream, "quantize");
  const Shape shape = shape_of(op.x);
  const std::int64_t rows = shape[0], columns = shape[1];
  if (op.out.defined()) require_quantized("quantize", op.out, rows, columns);
  if (op.transposed.defined()) require_quantized("quantize", op.transposed, columns, rows);
  if (op.out.defined() && op.transposed.defined() &&
      (op.out.data.dtype != op.transposed.data.dtype || op.out.scaling != op.transposed.scaling))
    throw DefectError("quantize: out in {} and transposed in {}, one format and one scaling expected",
                      name_of(op.out.data.dtype), name_of(op.transposed.data.dtype));
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::quantize(stream, op);
  cpu::quantize(stream, op);
}

}  // namespace foretoken

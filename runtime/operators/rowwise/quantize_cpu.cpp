#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/error.h"
#include "runtime/operators/rowwise/quantize.h"
#include "runtime/operators/rowwise/quantize_scale.h"
#include "runtime/operators/rowwise/swiglu.h"

namespace foretoken::cpu {

namespace {

constexpr std::int64_t block = 128;
constexpr std::int64_t grain = 16;  // rows

template <class Function>
void with_format(DType format, Function&& function) {
  if (format == DType::f8e4m3) return function.template operator()<Float8E4M3>();
  if (format == DType::f8e5m2) return function.template operator()<Float8E5M2>();
  throw DefectError("quantize: dtype {}, f8e4m3 or f8e5m2 expected", name_of(format));
}

/// A view of a matrix or of its transpose. view(r, c) is an element.
struct View {
  const float* x;
  std::int64_t rows, columns, row_step, column_step;

  float operator()(std::int64_t r, std::int64_t c) const { return x[r * row_step + c * column_step]; }
  /// Largest magnitude in rows [r0, r1) and columns [c0, c1), without NaNs. (The conversion keeps NaNs.)
  float amax(std::int64_t r0, std::int64_t r1, std::int64_t c0, std::int64_t c1) const {
    float largest = 0;
    for (std::int64_t r = r0; r < r1; ++r)
      for (std::int64_t c = c0; c < c1; ++c) largest = std::fmax(largest, std::fabs((*this)(r, c)));
    return largest;
  }
};

/// The groups of elements that share a scale.
struct Groups {
  std::int64_t rows, columns;          // size of a group
  std::int64_t row_step, column_step;  // distance between the scales of groups that are neighbours
};

Groups groups_of(const QuantizedTensor& tensor) {
  const std::int64_t rows = tensor.data.shape[0], columns = tensor.data.shape[1];
  switch (tensor.scaling) {
    case Scaling::tensor:
      return {rows, columns, 0, 0};
    case Scaling::vector128:
      return {1, block, 1, rows};
    case Scaling::block128:
      return {block, block, tensor.scales.shape[1], 1};
  }
  throw DefectError("quantize: scaling {} is unknown", static_cast<int>(tensor.scaling));
}

void quantize(Stream& stream, const View& x, const QuantizedTensor& out) {
  const Groups group = groups_of(out);
  float* scales = out.scales.as<float>();
  with_format(out.data.dtype, [&]<class F>() {
    F* data = out.data.as<F>();
    const std::int64_t groups = (x.rows + group.rows - 1) / group.rows;
    stream.threads().parallel_for(
        groups, std::max<std::int64_t>(1, grain / group.rows), [&](auto begin, auto end) {
          for (std::int64_t g = begin; g < end; ++g)
            for (std::int64_t c0 = 0; c0 < x.columns; c0 += group.columns) {
              const std::int64_t r0 = g * group.rows, r1 = std::min(x.rows, r0 + group.rows),
                                 c1 = std::min(x.columns, c0 + group.columns);
              const float amax = x.amax(r0, r1, c0, c1);
              const GroupScale scale(amax, F::largest);
              scales[g * group.row_step + c0 / group.columns * group.column_step] = scale.scale;
              if (out.scaling == Scaling::tensor) scales[1] = amax;
              for (std::int64_t r = r0; r < r1; ++r)
                for (std::int64_t c = c0; c < c1; ++c) data[r * x.columns + c] = F(x(r, c) * scale.inverse);
            }
        });
  });
}

/// Returns the source's matrix. SwiGLU's results are computed into `computed`, which must outlive the result.
Tensor stored(Stream& stream, const QuantizeSource& source, std::vector<float>& computed) {
  if (const auto* x = std::get_if<Tensor>(&source)) return *x;
  if (const auto* with_amax = std::get_if<TensorWithAmax>(&source)) return with_amax->x;
  const auto matrix = [&](std::int64_t rows, std::int64_t columns) {
    computed.resize(static_cast<std::size_t>(rows * columns));
    return Tensor{.data = computed.data(), .dtype = DType::f32, .shape = {rows, columns}};
  };
  if (const auto* gated = std::get_if<SwigluOutput>(&source)) {
    const Tensor out = matrix(gated->gate_up.shape[0], gated->gate_up.shape[1] / 2);
    cpu::swiglu_forward(stream, SwigluForward{.gate_up = gated->gate_up, .out = out});
    return out;
  }
  const auto& gradient = std::get<SwigluInputGradient>(source);
  const Tensor out = matrix(gradient.gate_up.shape[0], gradient.gate_up.shape[1]);
  cpu::swiglu_backward(
      stream, SwigluBackward{.dout = gradient.dout, .gate_up = gradient.gate_up, .dgate_up = out, .out = {}});
  return out;
}

}  // namespace

void quantize(Stream& stream, const Quantize& op) {
  std::vector<float> computed;
  const Tensor source = stored(stream, op.x, computed);
  const std::int64_t rows = source.shape[0], columns = source.shape[1];
  const View x{source.as<float>(), rows, columns, columns, 1};
  if (op.out.defined()) quantize(stream, x, op.out);
  if (op.transposed.defined()) quantize(stream, View{x.x, columns, rows, 1, columns}, op.transposed);
}

std::vector<float> dequantized(Stream& stream, const QuantizedTensor& tensor) {
  const std::int64_t rows = tensor.data.shape[0], columns = tensor.data.shape[1];
  const Groups group = groups_of(tensor);
  const float* scales = tensor.scales.as<float>();
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  with_format(tensor.data.dtype, [&]<class F>() {
    const F* data = tensor.data.as<F>();
    stream.threads().parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r)
        for (std::int64_t c = 0; c < columns; ++c)
          values[static_cast<std::size_t>(r * columns + c)] =
              static_cast<float>(data[r * columns + c]) *
              scales[r / group.rows * group.row_step + c / group.columns * group.column_step];
    });
  });
  return values;
}

}  // namespace foretoken::cpu

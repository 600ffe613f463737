#include "runtime/cuda/context.h"
#include "runtime/cuda/matmul.h"
#include "runtime/operators/products/few_rows_linear.h"
#include "runtime/operators/products/linear.h"

namespace foretoken::cuda {

void linear_forward(Stream& stream, const LinearForward& op) {
  const std::int64_t o = op.weight.shape[0], i = op.weight.shape[1], n = op.x.elements() / i;
  const bool wide = op.out.dtype == DType::f32;
  if (few_rows::fits(op.x, op.weight, n) && !(wide && op.residual.defined()))
    return few_rows::linear(stream,
                            {.rows = static_cast<int>(n),
                             .inputs = static_cast<int>(i),
                             .outputs = static_cast<int>(o),
                             .x = static_cast<const __nv_bfloat16*>(op.x.data),
                             .weight = static_cast<const __nv_bfloat16*>(op.weight.data),
                             .norm = nullptr,
                             .eps = 0,
                             .residual = static_cast<const __nv_bfloat16*>(op.residual.data),
                             .out = op.out.data,
                             .gated = nullptr,
                             .heads = nullptr},
                            wide);
  stream.cuda().matmul().run({.transpose_b = true,
                              .m = n,
                              .n = o,
                              .k = i,
                              .a = op.x,
                              .b = op.weight,
                              .c = op.residual,
                              .d = op.out});
}

void linear_backward_input(Stream& stream, const LinearBackwardInput& op) {
  const std::int64_t o = op.weight.shape[0], i = op.weight.shape[1];
  stream.cuda().matmul().run(
      {.m = op.dx.elements() / i, .n = i, .k = o, .a = op.dout, .b = op.weight, .d = op.dx});
}

void linear_backward_weight(Stream& stream, const LinearBackwardWeight& op) {
  const std::int64_t o = op.dweight.shape[0], i = op.dweight.shape[1];
  stream.cuda().matmul().run({.transpose_a = true,
                              .m = o,
                              .n = i,
                              .k = op.x.elements() / i,
                              .a = op.dout,
                              .b = op.x,
                              .c = op.dweight,
                              .beta = op.accumulate ? 1.0F : 0.0F,
                              .d = op.dweight});
}

}  // namespace foretoken::cuda

#include <algorithm>
#include <initializer_list>

#include "runtime/cuda/context.h"
#include "runtime/operators/products/few_rows_linear.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/products/linear_swiglu.h"
#include "runtime/operators/products/linear_swiglu_kernels.h"
#include "runtime/operators/rowwise/swiglu.h"

namespace foretoken::cuda {

namespace {

/// Whether the fused kernels support these tensors. If they do not, two operators run one after the other.
bool fits(std::int64_t c, std::int64_t f, std::initializer_list<Tensor> tensors) {
  return c % 8 == 0 && f % 8 == 0 && std::all_of(tensors.begin(), tensors.end(), [](const Tensor& tensor) {
           return !tensor.defined() || (tensor.dtype == DType::bf16 && tensor.is_aligned());
         });
}

__nv_bfloat16* elements(const Tensor& tensor) {
  return static_cast<__nv_bfloat16*>(tensor.data);
}

}  // namespace

void linear_swiglu_forward(Stream& stream, const LinearSwigluForward& op) {
  const std::int64_t c = op.weight.shape[1], f = op.weight.shape[0] / 2, n = op.x.elements() / c;
  if (few_rows::fits(op.x, op.weight, n))
    return few_rows::linear(stream,
                            {.rows = static_cast<int>(n),
                             .inputs = static_cast<int>(c),
                             .outputs = static_cast<int>(2 * f),
                             .x = elements(op.x),
                             .weight = elements(op.weight),
                             .norm = nullptr,
                             .eps = 0,
                             .residual = nullptr,
                             .out = op.gate_up.data,
                             .gated = elements(op.gated),
                             .heads = nullptr},
                            false);
  if (fits(c, f, {op.x, op.weight, op.gate_up, op.gated}))
    return linear_swiglu::forward_bf16(stream.cuda(), {.n = static_cast<int>(n),
                                                       .c = static_cast<int>(c),
                                                       .f = static_cast<int>(f),
                                                       .a = elements(op.x),
                                                       .weight = elements(op.weight),
                                                       .gate_up = nullptr,
                                                       .out = elements(op.gate_up),
                                                       .gated = elements(op.gated)});
  cuda::linear_forward(stream, {.x = op.x, .weight = op.weight, .out = op.gate_up});
  cuda::swiglu_forward(stream, {.gate_up = op.gate_up, .out = op.gated});
}

void linear_swiglu_backward_input(Stream& stream, const LinearSwigluBackwardInput& op) {
  const std::int64_t c = op.weight.shape[0], f = op.weight.shape[1];
  if (fits(c, f, {op.dout, op.weight, op.gate_up, op.dgate_up, op.gated}))
    return linear_swiglu::backward_bf16(stream.cuda(), {.n = static_cast<int>(op.dout.elements() / c),
                                                        .c = static_cast<int>(c),
                                                        .f = static_cast<int>(f),
                                                        .a = elements(op.dout),
                                                        .weight = elements(op.weight),
                                                        .gate_up = elements(op.gate_up),
                                                        .out = elements(op.dgate_up),
                                                        .gated = elements(op.gated)});
  cuda::linear_backward_input(stream, {.dout = op.dout, .weight = op.weight, .dx = op.dgated});
  cuda::swiglu_backward(stream,
                        {.dout = op.dgated, .gate_up = op.gate_up, .dgate_up = op.dgate_up, .out = op.gated});
}

}  // namespace foretoken::cuda

#include "runtime/cuda/context.h"
#include "runtime/cuda/matmul.h"
#include "runtime/operators/linear.h"

namespace foretoken::cuda {

void linear_forward(Stream& stream, const LinearForward& op) {
  const std::int64_t o = op.weight.shape[0], i = op.weight.shape[1];
  stream.cuda().matmul().run({.transpose_b = true,
                              .m = op.x.elements() / i,
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

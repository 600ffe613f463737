#include "runtime/operators/dispatch.h"
#include "runtime/operators/products/few_rows_cpu.h"
#include "runtime/operators/products/gemm_cpu.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken::cpu {

namespace {

struct Dims {
  std::int64_t n, i, o;

  Dims(const Tensor& x, const Tensor& weight)
      : n(weight.shape[1] == 0 ? 0 : x.elements() / weight.shape[1]),
        i(weight.shape[1]),
        o(weight.shape[0]) {}
};

}  // namespace

void linear_forward(Stream& stream, const LinearForward& op) {
  const auto [n, i, o] = Dims(op.x, op.weight);
  const bool residual = op.residual.defined();
  if (n <= most_few_rows)
    return with_floating("linear_forward", op.x.dtype, [&, n = n, i = i, o = o]<class T>() {
      few_rows_product<T>(stream, {.n = n,
                                   .o = o,
                                   .k = i,
                                   .x = op.x.as<T>(),
                                   .w = op.weight.as<T>(),
                                   .out = op.out.as<T>(),
                                   .addend = residual ? op.residual.as<T>() : nullptr});
    });
  if (residual && op.residual.data != op.out.data) cpu::copy(stream, op.residual, op.out);
  with_floating("linear_forward", op.x.dtype, [&, n = n, i = i, o = o]<class T>() {
    gemm<T>(stream, {.transpose_b = Transpose::yes,
                     .m = n,
                     .n = o,
                     .k = i,
                     .a = op.x.as<T>(),
                     .lda = i,
                     .b = op.weight.as<T>(),
                     .ldb = i,
                     .c = op.out.as<T>(),
                     .ldc = o,
                     .beta = T(residual ? 1 : 0)});
  });
}

void linear_backward_input(Stream& stream, const LinearBackwardInput& op) {
  const auto [n, i, o] = Dims(op.dx, op.weight);
  with_floating("linear_backward_input", op.dout.dtype, [&, n = n, i = i, o = o]<class T>() {
    gemm<T>(stream, {.m = n,
                     .n = i,
                     .k = o,
                     .a = op.dout.as<T>(),
                     .lda = o,
                     .b = op.weight.as<T>(),
                     .ldb = i,
                     .c = op.dx.as<T>(),
                     .ldc = i});
  });
}

void linear_backward_weight(Stream& stream, const LinearBackwardWeight& op) {
  const auto [n, i, o] = Dims(op.x, op.dweight);
  with_floating("linear_backward_weight", op.dout.dtype, [&, n = n, i = i, o = o]<class T>() {
    gemm<T>(stream, {.transpose_a = Transpose::yes,
                     .m = o,
                     .n = i,
                     .k = n,
                     .a = op.dout.as<T>(),
                     .lda = o,
                     .b = op.x.as<T>(),
                     .ldb = i,
                     .c = op.dweight.as<T>(),
                     .ldc = i,
                     .beta = T(op.accumulate ? 1 : 0)});
  });
}

}  // namespace foretoken::cpu

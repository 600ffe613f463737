#include "runtime/operators/dispatch.h"
#include "runtime/operators/elementwise.h"
#include "runtime/operators/gemm_cpu.h"
#include "runtime/operators/linear.h"
#include "runtime/profile.h"

namespace foretoken {

using cpu::Transpose;

namespace {

struct Dims {
  std::int64_t n, i, o;
};

/// x [N, I], weight [O, I], out [N, O]; leading dims of x and out are folded into N.
Dims dims_of(const char* who, const Tensor& x, const Tensor& weight, const Tensor& out) {
  const std::int64_t o = weight.shape[0], i = weight.shape[1];
  const std::int64_t n = i == 0 ? 0 : x.elements() / i;
  if (weight.shape.rank() != 2 || n * i != x.elements() || n * o != out.elements())
    throw DefectError("{}: x {}, weight {}, out {} do not fit [N, I], [O, I], [N, O]", who,
                      to_string(x.shape), to_string(weight.shape), to_string(out.shape));
  return {n, i, o};
}

}  // namespace

void linear_forward(Stream& stream, const LinearForward& op) {
  const ProfileScope scope(stream, "linear_forward");
  const auto [n, i, o] = dims_of("linear_forward", op.x, op.weight, op.out);
  const bool residual = op.residual.defined();
  if (residual && op.residual.data != op.out.data) copy(stream, op.residual, op.out);
  with_floating("linear_forward", op.x.dtype, [&, n = n, i = i, o = o]<class T>() {
    cpu::gemm<T>(stream, {.transpose_b = Transpose::yes,
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
  const ProfileScope scope(stream, "linear_backward_input");
  const auto [n, i, o] = dims_of("linear_backward_input", op.dx, op.weight, op.dout);
  with_floating("linear_backward_input", op.dout.dtype, [&, n = n, i = i, o = o]<class T>() {
    cpu::gemm<T>(stream, {.m = n,
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
  const ProfileScope scope(stream, "linear_backward_weight");
  const auto [n, i, o] = dims_of("linear_backward_weight", op.x, op.dweight, op.dout);
  with_floating("linear_backward_weight", op.dout.dtype, [&, n = n, i = i, o = o]<class T>() {
    cpu::gemm<T>(stream, {.transpose_a = Transpose::yes,
                          .m = o,
                          .n = i,
                          .k = n,
                          .a = op.dout.as<T>(),
                          .lda = o,
                          .b = op.x.as<T>(),
                          .ldb = i,
                          .c = op.dweight.as<T>(),
                          .ldc = i,
                          .beta = 1});
  });
}

}  // namespace foretoken

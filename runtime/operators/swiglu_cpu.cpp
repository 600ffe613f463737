#include "runtime/operators/dispatch.h"
#include "runtime/operators/swiglu.h"
#include "runtime/operators/vector_math.h"
#include "runtime/profile.h"

namespace foretoken {

namespace {

struct Dims {
  std::int64_t n, f;
};

Dims dims_of(const char* who, const Tensor& gate_up, const Tensor& out) {
  const std::int64_t f = out.shape[out.shape.rank() - 1];
  if (gate_up.elements() != 2 * out.elements() || gate_up.shape[gate_up.shape.rank() - 1] != 2 * f)
    throw DefectError("{}: gate_up {}, out {} do not fit [N, 2F], [N, F]", who, to_string(gate_up.shape),
                      to_string(out.shape));
  return {out.elements() / f, f};
}

}  // namespace

void swiglu_forward(Stream& stream, const SwigluForward& op) {
  const ProfileScope scope(stream, "swiglu_forward");
  const auto [n, f] = dims_of("swiglu_forward", op.gate_up, op.out);
  with_floating("swiglu_forward", op.out.dtype, [&, n = n, f = f]<class T>() {
    stream.threads().parallel_for(n, 8, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* gate = op.gate_up.as<T>() + row * 2 * f;
        const T* up = gate + f;
        T* out = op.out.as<T>() + row * f;
#pragma omp simd
        for (std::int64_t i = 0; i < f; ++i) out[i] = gate[i] / (T(1) + cpu::exp(-gate[i])) * up[i];
      }
    });
  });
}

void swiglu_backward(Stream& stream, const SwigluBackward& op) {
  const ProfileScope scope(stream, "swiglu_backward");
  const auto [n, f] = dims_of("swiglu_backward", op.gate_up, op.dout);
  with_floating("swiglu_backward", op.dout.dtype, [&, n = n, f = f]<class T>() {
    stream.threads().parallel_for(n, 8, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* gate = op.gate_up.as<T>() + row * 2 * f;
        const T* up = gate + f;
        const T* dout = op.dout.as<T>() + row * f;
        T* dgate = op.dgate_up.as<T>() + row * 2 * f;
        T* dup = dgate + f;
#pragma omp simd
        for (std::int64_t i = 0; i < f; ++i) {
          const T sigmoid = T(1) / (T(1) + cpu::exp(-gate[i]));
          const T silu = gate[i] * sigmoid;
          // out = silu(gate) · up
          dgate[i] = dout[i] * up[i] * (sigmoid + silu * (T(1) - sigmoid));
          dup[i] = dout[i] * silu;
        }
      }
    });
  });
}

}  // namespace foretoken

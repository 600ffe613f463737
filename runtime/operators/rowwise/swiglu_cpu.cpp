#include "runtime/operators/dispatch.h"
#include "runtime/operators/rowwise/swiglu.h"
#include "runtime/operators/vector_math.h"

namespace foretoken::cpu {

void swiglu_forward(Stream& stream, const SwigluForward& op) {
  const std::int64_t f = op.out.shape[op.out.shape.rank() - 1], n = op.out.elements() / f;
  with_floating("swiglu_forward", op.out.dtype, [&]<class T>() {
    stream.threads().parallel_for(n, 8, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* gate = op.gate_up.as<T>() + row * 2 * f;
        const T* up = gate + f;
        T* out = op.out.as<T>() + row * f;
#pragma omp simd
        for (std::int64_t i = 0; i < f; ++i) out[i] = gate[i] / (T(1) + exp(-gate[i])) * up[i];
      }
    });
  });
}

void swiglu_backward(Stream& stream, const SwigluBackward& op) {
  const std::int64_t f = op.dout.shape[op.dout.shape.rank() - 1], n = op.dout.elements() / f;
  with_floating("swiglu_backward", op.dout.dtype, [&]<class T>() {
    stream.threads().parallel_for(n, 8, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* gate = op.gate_up.as<T>() + row * 2 * f;
        const T* up = gate + f;
        const T* dout = op.dout.as<T>() + row * f;
        T* dgate = op.dgate_up.as<T>() + row * 2 * f;
        T* dup = dgate + f;
        T* out = op.out.defined() ? op.out.as<T>() + row * f : nullptr;
        // Outputs may alias inputs: each element is read before it is written.
#pragma omp simd
        for (std::int64_t i = 0; i < f; ++i) {
          const T sigmoid = T(1) / (T(1) + exp(-gate[i]));
          const T silu = gate[i] * sigmoid, d = dout[i], u = up[i];
          // out = silu(gate) · up
          dgate[i] = d * u * (sigmoid + silu * (T(1) - sigmoid));
          dup[i] = d * silu;
          if (out) out[i] = silu * u;
        }
      }
    });
  });
}

}  // namespace foretoken::cpu

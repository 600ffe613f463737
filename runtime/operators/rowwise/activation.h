#pragma once
// Pointwise nonlinearities.
//
//   out = f(x) (+ residual)      dx = dout · f′(x)
//   gelu(x) = x · Φ(x), Φ the normal distribution function (Hendrycks & Gimpel, "Gaussian error linear
//   units", 2016; exact, without their approximation)      silu(x) = x · σ(x)
//
// A tensor marked "=" is overwritten; the others are read.

#include "runtime/stream.h"

namespace foretoken {

enum class Activation { gelu, silu };

struct ActivationForward {
  Activation function = Activation::gelu;
  Tensor x;         // [n]
  Tensor residual;  // [n], optional
  Tensor out;       // [n] =
};
void activation_forward(Stream& stream, const ActivationForward& op);

struct ActivationBackward {
  Activation function = Activation::gelu;
  Tensor dout;  // [n]
  Tensor x;     // [n]
  Tensor dx;    // [n] =; may alias dout or x
};
void activation_backward(Stream& stream, const ActivationBackward& op);

namespace cpu {
void activation_forward(Stream& stream, const ActivationForward& op);
void activation_backward(Stream& stream, const ActivationBackward& op);
}  // namespace cpu
namespace cuda {
void activation_forward(Stream& stream, const ActivationForward& op);
void activation_backward(Stream& stream, const ActivationBackward& op);
}  // namespace cuda

}  // namespace foretoken

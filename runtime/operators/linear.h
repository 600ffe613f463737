#pragma once
// A linear layer without bias. W is [O, I], as PyTorch and Hugging Face store it.
//
//   out[N, O] = x[N, I] · Wᵀ (+ residual[N, O])
//   dx [N, I] = dout · W          (overwritten)
//   dW [O, I] += doutᵀ · x        (accumulated; = for the first of a sum, which spares it its zeros)
//
// Up to 256 rows, as decoding steps have, are multiplied by kernels of our own, on a GPU in bf16
// (few_rows_linear.h) and on the CPU (few_rows_cpu.h): what a row gives then has the same bits however many
// rows it comes with. Larger products, and those in f32 on a GPU, are the library's and may differ in their
// last bits from one number of rows to the next.

#include "runtime/stream.h"

namespace foretoken {

/// Above it a library's products are worth more than their last bits.
inline constexpr std::int64_t most_few_rows = 256;

struct LinearForward {
  Tensor x;         // [N, I]
  Tensor weight;    // [O, I]
  Tensor residual;  // [N, O], optional; may be out itself
  Tensor out;       // [N, O]
};
void linear_forward(Stream& stream, const LinearForward& op);

struct LinearBackwardInput {
  Tensor dout;    // [N, O]
  Tensor weight;  // [O, I]
  Tensor dx;      // [N, I] =
};
void linear_backward_input(Stream& stream, const LinearBackwardInput& op);

struct LinearBackwardWeight {
  Tensor dout;     // [N, O]
  Tensor x;        // [N, I]
  Tensor dweight;  // [O, I] +=, or =
  bool accumulate = true;
};
void linear_backward_weight(Stream& stream, const LinearBackwardWeight& op);

namespace cpu {
void linear_forward(Stream& stream, const LinearForward& op);
void linear_backward_input(Stream& stream, const LinearBackwardInput& op);
void linear_backward_weight(Stream& stream, const LinearBackwardWeight& op);
}  // namespace cpu
namespace cuda {
void linear_forward(Stream& stream, const LinearForward& op);
void linear_backward_input(Stream& stream, const LinearBackwardInput& op);
void linear_backward_weight(Stream& stream, const LinearBackwardWeight& op);
}  // namespace cuda

}  // namespace foretoken

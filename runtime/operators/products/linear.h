#pragma once
// A linear layer without bias. W is [O, I], as PyTorch and Hugging Face store it.
//
//   out[N, O] = x[N, I] · Wᵀ (+ residual[N, O])
//   dx [N, I] = dout · W
//   dW [O, I] += doutᵀ · x        (a step's first term may overwrite dW, which then needs no zeroing)
//
// Forward with up to 256 rows, the size of a decoding step, uses this project's kernels: few_rows_linear.h
// for bf16 on a GPU, few_rows_cpu.h on the CPU. The bits of a row's result then do not depend on the number
// of rows. Larger products, backward, and f32 products on a GPU use the BLAS library; the last bits of a row
// may depend on the number of rows. A tensor marked "=" is overwritten, one marked "+=" is added to; the
// others are read.

#include "runtime/stream.h"

namespace foretoken {

/// Forward uses the BLAS library above this number of rows: there its speed matters more than last bits that
/// do not depend on the number of rows.
inline constexpr std::int64_t most_few_rows = 256;

struct LinearForward {
  Tensor x;         // [N, I]
  Tensor weight;    // [O, I]
  Tensor residual;  // [N, O], optional; may alias out
  Tensor out;       // [N, O] =
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
  Tensor dweight;  // [O, I] += if accumulate, else =
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

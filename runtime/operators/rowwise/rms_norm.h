#pragma once
// Root-mean-square norm (Zhang & Sennrich, "Root mean square layer normalization", 2019, eq. 4).
//
//   rstdₙ = 1 / √( mean_c(x²ₙ) + ε )
//   out   = x · rstd · w
//   dx    = rstd · ( w·dout − x · rstd² · mean_c(w·dout·x) )  (+ residual)
//   dw   += Σₙ dout · x · rstd
//
// out and dout may be a column block of a wider matrix, with rows `stride` elements apart. The two norms of
// an MTP module use this to write both halves of its projection's input in place. A tensor marked "=" is
// overwritten, one marked "+=" is added to; the others are read.

#include "runtime/stream.h"

namespace foretoken {

/// Columns [first, first + C) of every row of a [N, stride] matrix.
struct Columns {
  Tensor matrix;           // [N, stride]
  std::int64_t first = 0;  // the block's first column
};

struct RmsNormForward {
  Tensor x;       // [N, C]
  Tensor weight;  // [C]
  double eps = 1e-5;
  Columns out;  // [N, C] =
  Tensor rstd;  // [N] =, in the statistics' dtype, saved for backward
  Tensor amax;  // [1] f32 = max |out|, optional
};
void rms_norm_forward(Stream& stream, const RmsNormForward& op);

/// Computes the gradients of input and weight in one pass, because both read the same tensors. The weight's
/// gradient is too little work for a schedule to gain from running it separately.
struct RmsNormBackward {
  Columns dout;     // [N, C]
  Tensor x;         // [N, C]
  Tensor weight;    // [C]
  Tensor rstd;      // [N]
  Tensor residual;  // [N, C], optional: the gradient of x's residual path; may alias dx
  Tensor dx;        // [N, C] = (+ residual)
  Tensor dweight;   // [C] +=, optional
  Tensor out;       // [N, C] =, optional: forward's output, for callers that did not keep it
  Tensor amax;      // [1] f32 = max |dx|, optional
};
void rms_norm_backward(Stream& stream, const RmsNormBackward& op);

namespace cpu {
void rms_norm_forward(Stream& stream, const RmsNormForward& op);
void rms_norm_backward(Stream& stream, const RmsNormBackward& op);
}  // namespace cpu
namespace cuda {
void rms_norm_forward(Stream& stream, const RmsNormForward& op);
void rms_norm_backward(Stream& stream, const RmsNormBackward& op);
}  // namespace cuda

}  // namespace foretoken

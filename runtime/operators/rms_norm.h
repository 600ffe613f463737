#pragma once
// Root-mean-square norm (Zhang & Sennrich, "Root mean square layer normalization", 2019, eq. 4).
//
//   rstdₙ = 1 / √( mean_c(x²ₙ) + ε )
//   out   = x · rstd · w
//   dx    = rstd · ( w·dout − x · rstd² · mean_c(w·dout·x) )
//   dw   += Σₙ dout · x · rstd
//
// out and dout may be a column block of a wider matrix: their rows are then `stride` elements apart. That
// lets the two norms of an MTP module write both halves of its projection's input in place.

#include "runtime/stream.h"

namespace foretoken {

/// Columns [first, first + C) of every row of a [N, stride] matrix.
struct Columns {
  Tensor matrix;           // [N, stride]
  std::int64_t first = 0;  // where the block begins
};

struct RmsNormForward {
  Tensor x;       // [N, C]
  Tensor weight;  // [C]
  double eps = 1e-5;
  Columns out;  // [N, C] =
  Tensor rstd;  // [N] =, saved for backward
};
void rms_norm_forward(Stream& stream, const RmsNormForward& op);

struct RmsNormBackwardInput {
  Columns dout;             // [N, C]
  Tensor x;                 // [N, C]
  Tensor weight;            // [C]
  Tensor rstd;              // [N]
  Tensor dx;                // [N, C] =, or += where accumulate
  bool accumulate = false;  // dx already holds the gradient that came along the residual
};
void rms_norm_backward_input(Stream& stream, const RmsNormBackwardInput& op);

struct RmsNormBackwardWeight {
  Columns dout;    // [N, C]
  Tensor x;        // [N, C]
  Tensor rstd;     // [N]
  Tensor dweight;  // [C] +=
};
void rms_norm_backward_weight(Stream& stream, const RmsNormBackwardWeight& op);

}  // namespace foretoken

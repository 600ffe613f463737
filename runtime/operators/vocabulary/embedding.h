#pragma once
// Embedding lookup for a window of each row's tokens.
//
//   out[b, t] = table[ tokens[b, first + t] ]
//   dtable[ tokens[b, first + t] ] += dout[b, t]
//
// A tensor marked "=" is overwritten, one marked "+=" is added to; the others are read.

#include "runtime/stream.h"

namespace foretoken {

struct EmbeddingForward {
  Tensor tokens;           // [B, S] i32, S ≥ first + T; tokens in [0, V), or `chosen` below
  std::int64_t first = 0;  // k for MTP depth k
  Tensor table;            // [V, C]
  /// [M] i32, optional: results of argmax() that the host has not read yet. A token −1 − m stands for
  /// chosen[m], or for token 0 if chosen[m] is −1.
  Tensor chosen{};
  Tensor out;  // [B, T, C] =
};
void embedding_forward(Stream& stream, const EmbeddingForward& op);

struct EmbeddingBackwardWeight {
  Tensor dout;    // [B, T, C]
  Tensor tokens;  // [B, S] i32
  std::int64_t first = 0;
  Tensor dtable;  // [V, C] +=
};
void embedding_backward_weight(Stream& stream, const EmbeddingBackwardWeight& op);

namespace cpu {
void embedding_forward(Stream& stream, const EmbeddingForward& op);
void embedding_backward_weight(Stream& stream, const EmbeddingBackwardWeight& op);
}  // namespace cpu
namespace cuda {
void embedding_forward(Stream& stream, const EmbeddingForward& op);
void embedding_backward_weight(Stream& stream, const EmbeddingBackwardWeight& op);
}  // namespace cuda

}  // namespace foretoken

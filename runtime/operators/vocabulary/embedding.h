#pragma once
// Embedding lookup for a window of each row's tokens.
//
//   out[b, t] = table[ tokens[b, first + t] ]
//   dtable[ tokens[b, first + t] ] += dout[b, t]

#include "runtime/stream.h"

namespace foretoken {

struct EmbeddingForward {
  Tensor tokens;           // [B, S] i32, S ≥ first + T, every token in [0, V)
  std::int64_t first = 0;  // k for MTP depth k
  Tensor table;            // [V, C]
  /// [M] i32, optional, as argmax() gives them: a token of −1 − m then stands for chosen[m], or for 0 where
  /// there is none. So tokens can be looked up that the host does not know yet.
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

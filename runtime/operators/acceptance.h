#pragma once
// Which drafts speculative decoding would accept, counted while tokens are given (teacher forcing). Depth k
// at position i drafts the token at i + k + 1; the main model says at position i + k what it would have put
// there:
//
//   agreesᵏᵢ = agreesᵏ⁻¹ᵢ ∧ ( draftᵏᵢ = mainᵢ₊ₖ )        agrees⁰ = 1: drafts are accepted as a prefix
//   drafts   += number of positions i with i + k < T and a target of depth k in their document
//   accepted += number of those where agreesᵏᵢ
//
// accepted / drafts is the acceptance of depth k, and 1 + Σₖ of it the expected length of what one step of
// speculative decoding gives (Leviathan et al., arXiv 2211.17192, greedy).

#include "runtime/stream.h"

namespace foretoken {

struct CountAcceptances {
  Tensor main;             // [B, T] i32, the likeliest token of every row at depth 0
  Tensor draft;            // [B, T] i32, at depth k
  Tensor document_start;   // [B, S] i32, S > T + k; as in runtime/operators/cross_entropy_head.h
  std::int64_t depth = 1;  // k
  Tensor agrees;           // [B, T] i32, of depth k − 1; updated to that of depth k. At depth 1 overwritten
  Tensor drafts, accepted;  // [1] f64 +=
};
void count_acceptances(Stream& stream, const CountAcceptances& op);

namespace cpu {
void count_acceptances(Stream& stream, const CountAcceptances& op);
}  // namespace cpu
namespace cuda {
void count_acceptances(Stream& stream, const CountAcceptances& op);
}  // namespace cuda

}  // namespace foretoken

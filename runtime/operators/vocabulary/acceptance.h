#pragma once
// Counts the drafts that greedy speculative decoding would accept, measured under teacher forcing. Depth k at
// position i drafts the token at i + k + 1. The main model predicts the same token at position i + k:
//
//   agreesᵏᵢ = agreesᵏ⁻¹ᵢ ∧ ( draftᵏᵢ = mainᵢ₊ₖ )        agrees⁰ = 1: only a prefix of the drafts is accepted
//   drafts   += number of positions i with i + k < T whose target of depth k is in the same document
//   accepted += number of those positions with agreesᵏᵢ = 1
//
// accepted / drafts is the acceptance rate of depth k. 1 + Σₖ acceptance rate is the expected number of
// tokens that one greedy speculative decoding step generates (Leviathan et al., arXiv 2211.17192). The mark
// "+=" means added to; other tensors are read unless their comment says more.

#include "runtime/stream.h"

namespace foretoken {

struct CountAcceptances {
  Tensor main;              // [B, T] i32, the main model's most likely token at each position
  Tensor draft;             // [B, T] i32, the most likely token of depth k at each position
  Tensor document_start;    // [B, S] i32, S > T + k; as in runtime/operators/vocabulary/cross_entropy_head.h
  std::int64_t depth = 1;   // k
  Tensor agrees;            // [B, T] i32, updated from agreesᵏ⁻¹ to agreesᵏ; not read at depth 1
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

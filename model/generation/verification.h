#pragma once
// Decides which drafts become text, given the model's predictions after the text and after each draft.

#include <functional>

#include "model/generation/token_chooser.h"

namespace foretoken {

struct Verdict {
  std::vector<std::int32_t> accepted;  // drafts, in order from the text
  std::int32_t token = 0;              // the token after them
};

/// Accepts drafts along the model's likeliest tokens; the text equals that of plain greedy decoding.
Verdict follow_likeliest(const GeneratedText& text, const DraftPredictions& model, TokenChooser& chooser);

/// Speculative sampling (Leviathan et al., arXiv 2211.17192, algorithm 1) over several candidates drawn
/// without replacement (Miao et al., "SpecInfer", arXiv 2305.09781; Jeon et al., "Recursive speculative
/// decoding", arXiv 2402.14160). p is the model's distribution after a draft or the text, and q the one that
/// its children x₁, x₂, … were drawn from. For each child in turn:
///
///   accept xⱼ with probability min(1, p(xⱼ) / q(xⱼ)) and continue with its children
///   else p ← norm(max(p − q, 0)), q ← norm(q without xⱼ)
///
/// If no child is accepted, or there is none, a token is drawn from p. The accepted tokens are distributed as
/// if each had been drawn from the model. The callback owns the buffer of p; verify() modifies it and uses it
/// until the next call.
using Distribution = std::function<std::span<double>(std::int32_t draft)>;
Verdict verify(const DraftTree& drafts, const Distribution& model, const SequenceRng& rng,
               std::int64_t first);
Verdict verify(const GeneratedText& text, const DraftPredictions& model, TokenChooser& chooser);

/// Accepts the path to a draft of the last depth that the model finds likeliest as a whole, and the likeliest
/// token after it: the best of the product of the heads' candidates, rescored by the model (Stern et al.,
/// arXiv 1811.03115, propose blocks this way; Kim et al., arXiv 2404.09221, rescore the lattice of the heads'
/// top-k; Qin et al., arXiv 2407.09722, choose tokens by their joint probability). The text differs from that
/// of plain decoding.
Verdict best_candidate(const GeneratedText& text, const DraftPredictions& model, TokenChooser& chooser);

}  // namespace foretoken

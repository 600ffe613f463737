#pragma once
// Decides which drafts become text, given the model's predictions after the text and after each draft.

#include <functional>

#include "model/generation/token_chooser.h"

namespace foretoken {

/// The tokens that verification adds to a text.
struct Verification {
  std::vector<std::int32_t> accepted;  // drafts, in order from the text
  std::int32_t token = 0;              // the token after them
};

/// Accepts a draft if it is the model's likeliest token; the text equals that of greedy decoding without
/// speculation.
Verification follow_likeliest(const GeneratedText& text, const DraftPredictions& model,
                              TokenChooser& chooser);

/// Speculative sampling (Leviathan et al., arXiv 2211.17192, algorithm 1) over several candidates drawn
/// without replacement (Miao et al., "SpecInfer", arXiv 2305.09781; Jeon et al., "Recursive speculative
/// decoding", arXiv 2402.14160). Let p be the model's distribution after a node (the text or a draft), and q
/// the distribution that the node's children x₁, x₂, … were drawn from. For each child in turn:
///
///   accept xⱼ with probability min(1, p(xⱼ) / q(xⱼ)) and continue with its children
///   else p ← norm(max(p − q, 0)), q ← norm(q without xⱼ)
///
/// If no child is accepted, or the node has no children, a token is drawn from p. The accepted tokens are
/// distributed as if each had been drawn from the model. `model` returns p after a draft (−1: after the text)
/// in a buffer of its own, which verify() modifies; `first` is the position of the first draft.
using Distribution = std::function<std::span<double>(std::int32_t draft)>;
Verification verify(const DraftTree& drafts, const Distribution& model, const SequenceRng& rng,
                    std::int64_t first);
Verification verify(const GeneratedText& text, const DraftPredictions& model, TokenChooser& chooser);

/// Accepts the path to the draft of the last depth with the largest joint probability under the model, and
/// the likeliest token after it. In a tree of parallel heads this rescores the product of the heads'
/// candidates (Stern et al., arXiv 1811.03115, propose blocks this way; Kim et al., arXiv 2404.09221, rescore
/// the lattice of the heads' top-k; Qin et al., arXiv 2407.09722, choose tokens by their joint probability).
/// The text differs from that of greedy decoding.
Verification best_candidate(const GeneratedText& text, const DraftPredictions& model, TokenChooser& chooser);

}  // namespace foretoken

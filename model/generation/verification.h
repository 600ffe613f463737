#pragma once
// Which drafts become text, given what the model has after the text and after each draft.

#include <functional>

#include "model/generation/token_chooser.h"

namespace foretoken {

struct Verdict {
  std::vector<std::int32_t> accepted;  // drafts, from the text on
  std::int32_t token = 0;              // the one after them
};

/// Accepts along the model's likeliest tokens: the text is that of plain greedy decoding.
Verdict follow_likeliest(const GeneratedText& text, const DraftPredictions& model, TokenChooser& chooser);

/// Speculative sampling (Leviathan et al., arXiv 2211.17192, algorithm 1) over several candidates that were
/// drawn without putting back (Miao et al., "SpecInfer", arXiv 2305.09781; Jeon et al., "Recursive
/// speculative decoding", arXiv 2402.14160). With p the model's distribution after a draft, or the text, and
/// q the one that its children x₁, x₂, … were drawn from, in turn:
///
///   accept xⱼ with probability min(1, p(xⱼ) / q(xⱼ)) and go on below it
///   else p ← norm(max(p − q, 0)), q ← norm(q without xⱼ)
///
/// Where none is accepted, or there is none, a token is drawn from p. Tokens are distributed as if each had
/// been drawn from the model.
/// p's place is the function's own; verify() writes on it, until it asks for the next.
using Distribution = std::function<std::span<double>(std::int32_t draft)>;
Verdict verify(const DraftTree& drafts, const Distribution& model, const SequenceRng& rng,
               std::int64_t first);
Verdict verify(const GeneratedText& text, const DraftPredictions& model, TokenChooser& chooser);

/// The candidate, a way through the tree to a draft of the last depth, that is likeliest as a whole for the
/// model, and the likeliest token after it: block by block the best of the heads' product, rescored by the
/// model (Stern et al., arXiv 1811.03115, propose blocks so; Kim et al., arXiv 2404.09221, rescore the
/// lattice of the heads' top-k; Qin et al., arXiv 2407.09722, choose tokens by their joint probability). It
/// is not the text that plain decoding gives.
Verdict best_candidate(const GeneratedText& text, const DraftPredictions& model, TokenChooser& chooser);

}  // namespace foretoken

#include "model/generation/verification.h"

#include <algorithm>

namespace foretoken {

namespace {

/// p ← norm(max(p − q, 0)). Rounding may make the maximum 0 everywhere; p stays unchanged then.
void subtract_and_normalise(std::span<double> p, std::span<const double> q) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < p.size(); ++i) sum += p[i] > q[i] ? p[i] - q[i] : 0;
  if (sum == 0) return;
#pragma omp simd
  for (std::size_t i = 0; i < p.size(); ++i) p[i] = p[i] > q[i] ? (p[i] - q[i]) / sum : 0;
}

/// The drafts on the path from the text to `draft`.
std::vector<std::int32_t> path_to(const DraftTree& drafts, std::int32_t draft) {
  std::vector<std::int32_t> path;
  for (; draft >= 0; draft = drafts[draft].parent) path.push_back(draft);
  std::reverse(path.begin(), path.end());
  return path;
}

}  // namespace

Verification follow_likeliest(const GeneratedText& text, const DraftPredictions& model,
                              TokenChooser& chooser) {
  Verification verification;
  std::int32_t at = -1, next = -1;
  do {
    at = next;
    if (at >= 0) verification.accepted.push_back(at);
    verification.token = chooser.likeliest(text, at, model[at]);
    const DraftTree::Range children = text.drafts.children(at);
    for (std::int32_t child = children.begin; child < children.end; ++child)
      if (text.drafts[child].token == verification.token) next = child;
  } while (next != at);
  return verification;
}

Verification verify(const DraftTree& drafts, const Distribution& model, const SequenceRng& rng,
                    std::int64_t first) {
  Verification verification;
  std::int32_t at = -1;
  while (true) {
    const std::int64_t position = first + static_cast<std::int64_t>(verification.accepted.size());
    const std::span<double> p = model(at);
    const DraftTree::Range children = drafts.children(at);
    std::int32_t child = children.begin;
    std::span<const double> q;
    if (children.count() > 0) q = drafts.source(at);
    std::vector<double> left;  // copy of q without the rejected children
    for (; child < children.end; ++child) {
      const auto x = static_cast<std::size_t>(drafts[child].token);
      if (rng.accept(position, child - children.begin) * q[x] < p[x]) break;
      subtract_and_normalise(p, q);
      if (child + 1 == children.end) continue;
      if (left.empty()) left.assign(q.begin(), q.end());
      left[x] = 0;
      scale_to_one(left);
      q = left;
    }
    if (child == children.end) {
      verification.token = draw(p, rng.token(position));
      return verification;
    }
    verification.accepted.push_back(child);
    at = child;
  }
}

Verification verify(const GeneratedText& text, const DraftPredictions& model, TokenChooser& chooser) {
  return verify(
      text.drafts, [&](std::int32_t draft) { return chooser.distribution(text, draft, model[draft]); },
      text.rng, text.size());
}

Verification best_candidate(const GeneratedText& text, const DraftPredictions& model, TokenChooser& chooser) {
  const DraftTree& drafts = text.drafts;
  std::vector<double> score(static_cast<std::size_t>(drafts.size()));
  std::int32_t best = -1;
  for (std::int32_t parent = -1; parent < drafts.size(); ++parent) {
    const DraftTree::Range children = drafts.children(parent);
    if (children.count() == 0) continue;
    const std::vector<double> likelihood = chooser.log_likelihoods(text, parent, model[parent]);
    for (std::int32_t child = children.begin; child < children.end; ++child) {
      double& whole = score[static_cast<std::size_t>(child)];
      whole = likelihood[static_cast<std::size_t>(drafts[child].token)];
      if (parent >= 0) whole += score[static_cast<std::size_t>(parent)];
      if (drafts[child].depth == drafts.depth() &&
          (best < 0 || whole > score[static_cast<std::size_t>(best)]))
        best = child;
    }
  }
  return {.accepted = path_to(drafts, best), .token = chooser.likeliest(text, best, model[best])};
}

}  // namespace foretoken

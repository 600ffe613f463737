#include "model/generation/token_chooser.h"

#include <cmath>

namespace foretoken {

std::span<const std::int32_t> TokenChooser::text_to(const GeneratedText& text, std::int32_t draft) {
  if (sampling_.repetition_penalty == 1 || draft < 0) return text.tokens;
  seen_ = text.tokens;
  for (; draft >= 0; draft = text.drafts[draft].parent) seen_.push_back(text.drafts[draft].token);
  return seen_;
}

std::span<const float> TokenChooser::penalised(const GeneratedText& text, std::int32_t draft,
                                               std::span<const float> logits) {
  logits = logits.first(vocabulary_);
  if (sampling_.repetition_penalty == 1) return logits;
  penalised_.assign(logits.begin(), logits.end());
  penalise(penalised_, text_to(text, draft), sampling_.repetition_penalty);
  return penalised_;
}

std::int32_t TokenChooser::likeliest(const GeneratedText& text, std::int32_t draft, const Prediction& model) {
  if (model.logits.empty()) return model.likeliest;
  return foretoken::likeliest(penalised(text, draft, model.logits));
}

void TokenChooser::distribution(const GeneratedText& text, std::int32_t draft, const Prediction& model,
                                std::vector<double>& p) {
  foretoken::distribution(model.logits.first(vocabulary_), text_to(text, draft), sampling_, p);
}

std::span<double> TokenChooser::distribution(const GeneratedText& text, std::int32_t draft,
                                             const Prediction& model) {
  distribution(text, draft, model, distribution_);
  return distribution_;
}

std::vector<double> TokenChooser::log_likelihoods(const GeneratedText& text, std::int32_t draft,
                                                  const Prediction& model) {
  std::vector<double> p = foretoken::distribution(model.logits.first(vocabulary_), text_to(text, draft),
                                                  {.repetition_penalty = sampling_.repetition_penalty});
  for (double& x : p) x = std::log(x);
  return p;
}

void TokenChooser::add_drafts(GeneratedText& text, std::int32_t draft, int count, const Prediction& model) {
  if (model.logits.empty()) {
    for (int i = 0; i < model.candidates; ++i) text.drafts.add(draft, model.likeliest - i);
    return;
  }
  if (greedy()) {
    likeliest_of(penalised(text, draft, model.logits), static_cast<std::size_t>(count), chosen_);
    for (const std::int32_t token : chosen_) text.drafts.add(draft, token);
    return;
  }
  std::vector<double>& source = text.drafts.new_source(draft);
  distribution(text, draft, model, source);
  const int depth = draft < 0 ? 0 : text.drafts[draft].depth;
  taken_.clear();
  for (int child = 0; child < count; ++child) {
    const std::int32_t token = draw(source, text.rng.draft(text.size() + depth, child));
    double& weight = source[static_cast<std::size_t>(token)];
    if (weight == 0) break;  // no token is left
    taken_.push_back({token, weight});
    weight = 0;
    text.drafts.add(draft, token);
  }
  for (const Taken& drawn : taken_) source[static_cast<std::size_t>(drawn.token)] = drawn.weight;
}

}  // namespace foretoken

#include "model/generation/drafter.h"

#include <algorithm>

#include "runtime/error.h"

namespace foretoken {

namespace {

/// Adds `children` drafts of depth `depth` to every draft of depth `depth` − 1. There is one prediction per
/// parent or, if `shared`, one per text.
void add_drafts(std::span<GeneratedText* const> texts, int depth, int children, bool shared,
                const Predictions& predictions, ThreadPool& threads, TokenChoosers& choosers) {
  choosers.for_each(texts, predictions, threads, [&](std::size_t i, TokenChooser& chooser) {
    GeneratedText& text = *texts[i];
    const std::size_t first = predictions.first_of(text.sequence);
    const DraftTree::Range last = text.drafts.at_depth(depth - 1);
    for (std::int32_t draft = last.begin; draft < last.end; ++draft)
      chooser.add_drafts(text, draft, children,
                         predictions[first + (shared ? 0 : static_cast<std::size_t>(draft - last.begin))]);
  });
}

}  // namespace

void Drafter::draft(std::span<GeneratedText* const> texts, const TreeShape& shape, TokenChoosers& choosers) {
  for (int depth = 1; depth <= static_cast<int>(shape.size()); ++depth) {
    drafting_.clear();
    for (GeneratedText* text : texts)
      if (text->room() >= depth && text->drafts.depth() == depth - 1) drafting_.push_back(text);
    if (drafting_.empty()) break;
    draft_depth(drafting_, depth, shape[static_cast<std::size_t>(depth) - 1], choosers);
  }
  finish(texts);
}

HeadDrafter::HeadDrafter(Decoder& decoder)
    : decoder_(decoder),
      computed_(static_cast<std::size_t>(decoder.levels()),
                std::vector<std::int32_t>(static_cast<std::size_t>(decoder.options().sequences))) {
  if (decoder.levels() == 1) throw DefectError("drafts: the model has no prediction heads");
}

int HeadDrafter::longest() const {
  return decoder_.is_chained() ? static_cast<int>(most_drafts) : decoder_.levels() - 1;
}

/// The text is t₀ … t_{n−1}. The trunk has computed all of it but the last token; a draft of depth k stands
/// for t_{n−1+k}. At position i, module k reads the token at i + k, so it can compute n − k positions from
/// the text. Its later rows have drafts of depth d < k as tokens. Heads that are not chained predict from the
/// trunk's last row.
void HeadDrafter::add_rows(const GeneratedText& text, int depth) {
  const int level = std::min(depth, decoder_.levels() - 1);
  const bool own_output = depth > level, chained = decoder_.is_chained();
  const std::int32_t ahead = chained ? level : 0, known = text.size() - std::max(ahead, 1);
  auto& computed = computed_[static_cast<std::size_t>(level)][static_cast<std::size_t>(text.sequence)];
  for (; computed < known; ++computed)
    rows_.add_token(text, computed, text.tokens[static_cast<std::size_t>(computed + ahead)]);
  const DraftTree::Range last = text.drafts.at_depth(depth - 1);
  if (!chained) {
    slots_.push_back(DraftRows::slot(text, known, -1));
    return;
  }
  for (std::int32_t draft = own_output ? last.begin : 0; draft < last.end; ++draft) {
    const auto [token, parent, of_depth] = text.drafts[draft];
    if (known - 1 + of_depth < 0) continue;
    const std::int32_t known_to_input = known + (own_output ? 0 : 1);
    rows_.add_draft(text, known, draft, parent < 0 ? -1 : known_to_input + parent);
  }
  for (std::int32_t draft = last.begin; draft < last.end; ++draft)
    slots_.push_back(DraftRows::slot(text, known, draft));
}

void HeadDrafter::draft_depth(std::span<GeneratedText* const> texts, int depth, int children,
                              TokenChoosers& choosers) {
  const int level = std::min(depth, decoder_.levels() - 1);
  rows_.clear();
  slots_.clear();
  for (const GeneratedText* text : texts) add_rows(*text, depth);
  decoder_.forward(level, rows_.rows(),
                   depth > level ? Decoder::Input::own_output : Decoder::Input::previous_depth);
  add_drafts(texts, depth, children, !decoder_.is_chained(),
             choosers.predictions(decoder_, level, slots_, children), decoder_.threads(), choosers);
}

/// Lets the device start while the host prepares the rows of the verification.
void HeadDrafter::finish(std::span<GeneratedText* const> /*texts*/) {
  decoder_.start();
}

ModelDrafter::ModelDrafter(Decoder& decoder, std::int64_t vocabulary)
    : decoder_(decoder), caches_(static_cast<std::size_t>(decoder.options().sequences)) {
  if (decoder.options().model.vocab_size < vocabulary)
    throw UsageError("drafts: the draft model's vocabulary has {} tokens, expected at least {}",
                     decoder.options().model.vocab_size, vocabulary);
}

/// Keeps the cached rows of drafts that became text, and adds rows for the text's other new tokens.
void ModelDrafter::add_text(const GeneratedText& text) {
  auto& [computed, drafts] = caches_[static_cast<std::size_t>(text.sequence)];
  for (const std::int32_t draft : drafts) {
    if (computed == text.size() || text.tokens[static_cast<std::size_t>(computed)] != draft) break;
    ++computed;
  }
  drafts.clear();
  computed = std::min(computed, text.size() - 1);
  for (; computed < text.size(); ++computed)
    rows_.add_token(text, computed, text.tokens[static_cast<std::size_t>(computed)]);
}

void ModelDrafter::draft_depth(std::span<GeneratedText* const> texts, int depth, int children,
                               TokenChoosers& choosers) {
  rows_.clear();
  slots_.clear();
  for (const GeneratedText* text : texts) {
    if (depth == 1) add_text(*text);
    const DraftTree::Range last = text->drafts.at_depth(depth - 1);
    for (std::int32_t draft = last.begin; draft < last.end; ++draft) {
      slots_.push_back(DraftRows::slot(*text, text->size(), draft));
      if (draft < 0) continue;
      rows_.add_draft(*text, text->size(), draft);
    }
  }
  decoder_.forward(0, rows_.rows());
  add_drafts(texts, depth, children, false, choosers.predictions(decoder_, 0, slots_, children),
             decoder_.threads(), choosers);
}

/// Replaces placeholders by tokens here, because only this decoder, not the model's, has their values.
void ModelDrafter::finish(std::span<GeneratedText* const> texts) {
  const std::span<const std::int32_t> tokens = decoder_.tokens();
  for (GeneratedText* text : texts) {
    DraftTree& drafts = text->drafts;
    drafts.resolve(tokens);
    // All drafts have rows, except those of the last depth.
    for (std::int32_t draft = 0; draft < drafts.size() && drafts[draft].depth < drafts.depth() &&
                                 DraftRows::is_in_text_slot(drafts, draft);
         ++draft)
      caches_[static_cast<std::size_t>(text->sequence)].drafts.push_back(drafts[draft].token);
  }
}

}  // namespace foretoken

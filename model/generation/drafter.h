#pragma once
// What drafts for the model: its own prediction heads, or another model. Both grow trees depth by depth: rows
// over the drafts of one depth give the logits of which the next depth's are chosen.

#include "model/generation/draft_rows.h"
#include "model/generation/token_chooser.h"

namespace foretoken {

class Drafter {
 public:
  virtual ~Drafter() = default;
  /// Gives texts, which have no drafts, trees of that shape, each as deep as it has room for. The model has
  /// computed all tokens of a text but the last. Where heads draft, tokens may be ones that the model's
  /// decoder has yet to tell (Decoder::choose()).
  void draft(std::span<GeneratedText* const> texts, const TreeShape& shape, TokenChoosers& choosers);
  /// Depths that it can draft.
  virtual int longest() const = 0;
  /// Depths that it was trained for, or that are a fair beginning.
  virtual int trained() const { return 2; }

 private:
  /// Adds `children` drafts below every one of depth `depth` − 1.
  virtual void draft_depth(std::span<GeneratedText* const> texts, int depth, int children,
                           TokenChoosers& choosers) = 0;
  /// After the last depth.
  virtual void finish(std::span<GeneratedText* const> texts) = 0;

  std::vector<GeneratedText*> drafting_;
};

/// Drafts by the decoder's own heads. Chained heads of D modules draft k ≤ D with module k, as they were
/// trained; past that the last module goes on over its own output, one position further each time: hᴰ at a
/// position predicts what hᴰ⁻¹ predicts at the next, so that it can stand for it. Their caches are filled
/// over the prompt too. What they computed over drafts is computed again over the tokens that were accepted.
/// Heads that look at the trunk alone give every draft of a depth the same logits: the tree is their product.
class HeadDrafter : public Drafter {
 public:
  explicit HeadDrafter(Decoder& decoder);
  int longest() const override;
  int trained() const override { return decoder_.levels() - 1; }

 private:
  void draft_depth(std::span<GeneratedText* const> texts, int depth, int children,
                   TokenChoosers& choosers) override;
  void finish(std::span<GeneratedText* const> texts) override;
  void add_rows(const GeneratedText& text, int depth);

  Decoder& decoder_;
  std::vector<std::vector<std::int32_t>> computed_;  // by level and sequence: rows of the text
  DraftRows rows_;
  std::vector<Decoder::Place> places_;
};

/// Drafts by another model over the same tokens, as it would go on itself.
class ModelDrafter : public Drafter {
 public:
  /// A UsageError where the model knows fewer tokens than `vocabulary`.
  ModelDrafter(Decoder& decoder, std::int64_t vocabulary);
  int longest() const override { return static_cast<int>(most_drafts); }

 private:
  void draft_depth(std::span<GeneratedText* const> texts, int depth, int children,
                   TokenChoosers& choosers) override;
  void finish(std::span<GeneratedText* const> texts) override;
  void add_text(const GeneratedText& text);

  Decoder& decoder_;
  struct Cache {
    std::int32_t computed = 0;         // rows of the text
    std::vector<std::int32_t> drafts;  // tokens of rows that follow in their positions' cells
  };
  std::vector<Cache> caches_;  // by sequence
  DraftRows rows_;
  std::vector<Decoder::Place> places_;
};

}  // namespace foretoken

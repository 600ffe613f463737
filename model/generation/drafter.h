#pragma once
// Drafters: the model's own prediction heads, or another model. Both grow draft trees depth by depth: they
// compute the drafts of one depth and choose the next depth's drafts from the resulting logits.

#include "model/generation/draft_rows.h"
#include "model/generation/token_chooser.h"

namespace foretoken {

class Drafter {
 public:
  virtual ~Drafter() = default;
  /// Grows trees of the given shape for texts without drafts; a text's tree is at most text.room() deep. The
  /// model has computed all tokens of a text but the last. If heads draft, tokens may be placeholders that
  /// the model's decoder resolves later (Decoder::choose()).
  void draft(std::span<GeneratedText* const> texts, const TreeShape& shape, TokenChoosers& choosers);
  /// The maximum draft depth.
  virtual int longest() const = 0;
  /// The draft depth that the drafter was trained for, or a reasonable first choice.
  virtual int trained() const { return 2; }

 private:
  /// Adds `children` drafts to every draft of depth `depth` − 1.
  virtual void draft_depth(std::span<GeneratedText* const> texts, int depth, int children,
                           TokenChoosers& choosers) = 0;
  /// Called after the last depth.
  virtual void finish(std::span<GeneratedText* const> texts) = 0;

  std::vector<GeneratedText*> drafting_;
};

/// Drafts with the decoder's own heads. Chained heads of D modules draft depth k ≤ D with module k, as they
/// were trained. Beyond D the last module runs on its own output, one position further each time: hᴰ at a
/// position predicts the same token as hᴰ⁻¹ at the next position and can replace it. The modules' caches also
/// cover the prompt. Rows that were computed from drafts are computed again from the accepted tokens. Heads
/// that read only the trunk give every draft of a depth the same logits, so the tree is the product of the
/// depths' candidates.
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
  std::vector<std::vector<std::int32_t>> computed_;  // by level and sequence: number of computed text rows
  DraftRows rows_;
  std::vector<CacheSlot> slots_;
};

/// Drafts with another model of the same vocabulary, which continues the text token by token.
class ModelDrafter : public Drafter {
 public:
  /// Throws a UsageError if the model's vocabulary is smaller than `vocabulary`.
  ModelDrafter(Decoder& decoder, std::int64_t vocabulary);
  int longest() const override { return static_cast<int>(most_drafts); }

 private:
  void draft_depth(std::span<GeneratedText* const> texts, int depth, int children,
                   TokenChoosers& choosers) override;
  void finish(std::span<GeneratedText* const> texts) override;
  void add_text(const GeneratedText& text);

  Decoder& decoder_;
  struct Cache {
    std::int32_t computed = 0;         // number of computed text rows
    std::vector<std::int32_t> drafts;  // tokens of the draft rows after them, in the slots of their positions
  };
  std::vector<Cache> caches_;  // by sequence
  DraftRows rows_;
  std::vector<CacheSlot> slots_;
};

}  // namespace foretoken

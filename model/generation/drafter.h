#pragma once
// Drafters: the model's own prediction heads, or another model. Both grow trees depth by depth: rows over
// the drafts of one depth give the logits that the next depth's drafts are chosen from.

#include "model/generation/draft_rows.h"
#include "model/generation/token_chooser.h"

namespace foretoken {

class Drafter {
 public:
  virtual ~Drafter() = default;
  /// Grows trees of the given shape for texts without drafts, each as deep as the text has room for. The
  /// model has computed all tokens of a text but the last. If heads draft, tokens may be numbers that the
  /// model's decoder resolves later (Decoder::choose()).
  void draft(std::span<GeneratedText* const> texts, const TreeShape& shape, TokenChoosers& choosers);
  /// The largest depth that it can draft.
  virtual int longest() const = 0;
  /// The depth that it was trained for, or a reasonable first choice.
  virtual int trained() const { return 2; }

 private:
  /// Adds `children` drafts to every draft of depth `depth` − 1.
  virtual void draft_depth(std::span<GeneratedText* const> texts, int depth, int children,
                           TokenChoosers& choosers) = 0;
  /// Called after the last depth.
  virtual void finish(std::span<GeneratedText* const> texts) = 0;

  std::vector<GeneratedText*> drafting_;
};

/// Drafts by the decoder's own heads. Chained heads of D modules draft depth k ≤ D with module k, as they
/// were trained. Past D the last module runs on its own output, one position further each time: hᴰ at a
/// position predicts the same token as hᴰ⁻¹ at the next position and can replace it. The modules' caches are
/// filled over the prompt too. Rows that were computed over drafts are computed again over the accepted
/// tokens. Heads that read the trunk alone give every draft of a depth the same logits, so the tree is the
/// product of their candidates.
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
  std::vector<CacheSlot> slots_;
};

/// Drafts by another model with the same vocabulary, which continues the text itself.
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
    std::int32_t computed = 0;         // rows of the text
    std::vector<std::int32_t> drafts;  // tokens of the rows after them, in their positions' cells
  };
  std::vector<Cache> caches_;  // by sequence
  DraftRows rows_;
  std::vector<CacheSlot> slots_;
};

}  // namespace foretoken

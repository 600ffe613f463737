#pragma once
// The rows of a pass that computes texts and their drafts. If a level has computed the first `known`
// positions of a text, draft i at depth d has position known − 1 + d and slot known + i. The drafts of a
// chain, and of a tree before its first fork, therefore have the slots that they would have as text.

#include "model/decoder/decoder.h"
#include "model/generation/token_chooser.h"

namespace foretoken {

class DraftRows {
 public:
  /// Whether the draft's slot is the slot of its position.
  static bool is_in_text_slot(const DraftTree& drafts, std::int32_t draft) {
    return draft == drafts[draft].depth - 1;
  }
  /// The slot of a draft's row; draft −1 is the last row of the text.
  static CacheSlot slot(const GeneratedText& text, std::int32_t known, std::int32_t draft) {
    return {.sequence = text.sequence, .slot = known + draft};
  }

  void clear();
  bool empty() const { return rows_.empty(); }
  /// Adds a row for a token of the text.
  void add_token(const GeneratedText& text, std::int32_t position, std::int32_t token);
  /// Adds a row for a draft. `input_slot` is the row's DecoderRow::input_slot, for chained levels.
  void add_draft(const GeneratedText& text, std::int32_t known, std::int32_t draft,
                 std::int32_t input_slot = -1);
  /// Valid until the next change.
  std::span<const DecoderRow> rows();

 private:
  std::vector<DecoderRow> rows_;
  std::vector<std::int32_t> branches_;      // slots, of all rows
  std::vector<std::size_t> branch_begins_;  // [rows + 1] in branches_
};

}  // namespace foretoken

#pragma once
// Rows of a pass over texts and their drafts. If a level has computed the first `known` positions of a text,
// draft i at depth d has position known − 1 + d and is kept in cell known + i. A chain is therefore kept
// where it would be as text, and so is the part of a tree before its first fork.

#include "model/generation/decoder.h"
#include "model/generation/token_chooser.h"

namespace foretoken {

class DraftRows {
 public:
  static bool in_place(const DraftTree& drafts, std::int32_t draft) {
    return draft == drafts[draft].depth - 1;
  }
  /// The cell of a draft's row; draft −1 is the last row of the text.
  static Decoder::Place place(const GeneratedText& text, std::int32_t known, std::int32_t draft) {
    return {.sequence = text.sequence, .position = known + draft};
  }

  void clear();
  bool empty() const { return rows_.empty(); }
  /// Adds a row for a token of the text.
  void add_token(const GeneratedText& text, std::int32_t position, std::int32_t token);
  /// Adds a row for a draft. In a chained level `from` is the cell of its input state; −1: the text's.
  void add_draft(const GeneratedText& text, std::int32_t known, std::int32_t draft, std::int32_t from = -1);
  /// Valid until the next change.
  std::span<const Decoder::Row> rows();

 private:
  std::vector<Decoder::Row> rows_;
  std::vector<std::int32_t> cells_;     // of all rows' branches
  std::vector<std::size_t> branch_at_;  // [rows + 1] in cells_
};

}  // namespace foretoken

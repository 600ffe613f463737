#pragma once
// Rows of a pass over texts and their drafts. At a level that has computed the first `known` positions of a
// text, draft i at depth d stands for position known − 1 + d and is kept in cell known + i. So a chain lies
// where it would as text, and of a tree whatever is one before the first fork.

#include "model/generation/decoder.h"
#include "model/generation/token_chooser.h"

namespace foretoken {

class DraftRows {
 public:
  static bool in_place(const DraftTree& drafts, std::int32_t draft) {
    return draft == drafts[draft].depth - 1;
  }
  /// Where the row of a draft is kept; −1: of the last of the text.
  static Decoder::Place place(const GeneratedText& text, std::int32_t known, std::int32_t draft) {
    return {.sequence = text.sequence, .position = known + draft};
  }

  void clear();
  bool empty() const { return rows_.empty(); }
  /// A token of the text.
  void add_token(const GeneratedText& text, std::int32_t position, std::int32_t token);
  /// A draft; in a chained level `from` is the cell of the state that it takes in, −1: the text's.
  void add_draft(const GeneratedText& text, std::int32_t known, std::int32_t draft, std::int32_t from = -1);
  /// Until the next change.
  std::span<const Decoder::Row> rows();

 private:
  std::vector<Decoder::Row> rows_;
  std::vector<std::int32_t> cells_;     // of the branches of all rows
  std::vector<std::size_t> branch_at_;  // [rows + 1] in cells_
};

}  // namespace foretoken

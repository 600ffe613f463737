#include "model/generation/draft_rows.h"

namespace foretoken {

void DraftRows::clear() {
  rows_.clear();
  cells_.clear();
  branch_at_.assign(1, 0);
}

void DraftRows::add_token(const GeneratedText& text, std::int32_t position, std::int32_t token) {
  rows_.push_back({.place = {text.sequence, position}, .token = token});
  branch_at_.push_back(cells_.size());
}

void DraftRows::add_draft(const GeneratedText& text, std::int32_t known, std::int32_t draft,
                          std::int32_t from) {
  const DraftTree::Node& node = text.drafts[draft];
  const std::int32_t position = known - 1 + node.depth;
  rows_.push_back({.place = {text.sequence, position}, .token = node.token, .from = from});
  if (!in_place(text.drafts, draft)) {
    const std::size_t begin = cells_.size();
    text.drafts.append_branch(draft, known, cells_);
    // In a short text a branch can reach back past the first position; those cells are dropped.
    cells_.resize(std::min(cells_.size(), begin + static_cast<std::size_t>(position) + 1));
  }
  branch_at_.push_back(cells_.size());
}

std::span<const Decoder::Row> DraftRows::rows() {
  for (std::size_t i = 0; i < rows_.size(); ++i)
    rows_[i].branch = std::span(cells_).subspan(branch_at_[i], branch_at_[i + 1] - branch_at_[i]);
  return rows_;
}

}  // namespace foretoken

#include "model/generation/draft_rows.h"

namespace foretoken {

void DraftRows::clear() {
  rows_.clear();
  branches_.clear();
  branch_begins_.assign(1, 0);
}

void DraftRows::add_token(const GeneratedText& text, std::int32_t position, std::int32_t token) {
  rows_.push_back({.sequence = text.sequence, .position = position, .token = token});
  branch_begins_.push_back(branches_.size());
}

void DraftRows::add_draft(const GeneratedText& text, std::int32_t known, std::int32_t draft,
                          std::int32_t input_slot) {
  const DraftTree::Node& node = text.drafts[draft];
  const std::int32_t position = known - 1 + node.depth;
  rows_.push_back(
      {.sequence = text.sequence, .position = position, .token = node.token, .input_slot = input_slot});
  if (!is_in_text_slot(text.drafts, draft)) {
    const std::size_t begin = branches_.size();
    text.drafts.append_branch(draft, known, branches_);
    // In a short text a branch may have more ancestors than there are positions; the excess slots are
    // dropped.
    branches_.resize(std::min(branches_.size(), begin + static_cast<std::size_t>(position) + 1));
  }
  branch_begins_.push_back(branches_.size());
}

std::span<const DecoderRow> DraftRows::rows() {
  for (std::size_t i = 0; i < rows_.size(); ++i)
    rows_[i].branch =
        std::span(branches_).subspan(branch_begins_[i], branch_begins_[i + 1] - branch_begins_[i]);
  return rows_;
}

}  // namespace foretoken

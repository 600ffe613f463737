#include "model/generation/draft_tree.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "runtime/error.h"

namespace foretoken {

std::int64_t drafts_in(const TreeShape& shape) {
  std::int64_t drafts = 0, at_depth = 1;
  for (const int children : shape) {
    at_depth *= children;
    drafts += at_depth;
    if (drafts > most_drafts) break;
  }
  return drafts;
}

std::int64_t branches_of(const TreeShape& shape) {
  const std::int64_t drafts = drafts_in(shape);
  return drafts == static_cast<std::int64_t>(shape.size()) ? 0 : drafts;
}

void validate(const TreeShape& shape) {
  for (const int children : shape)
    if (children < 1)
      throw UsageError("drafts: a tree of {} children by depth; each depth needs at least 1",
                       fmt::join(shape, ", "));
  if (drafts_in(shape) > most_drafts)
    throw UsageError("drafts: a tree of {} children by depth has more than {} drafts", fmt::join(shape, ", "),
                     most_drafts);
}

void DraftTree::clear() {
  nodes_.clear();
  children_.clear();
}

void DraftTree::add(std::int32_t parent, std::int32_t token) {
  const auto at = static_cast<std::size_t>(parent + 1);
  if (children_.size() <= at) children_.resize(at + 1, {size(), size()});
  nodes_.push_back({.token = token, .parent = parent, .depth = parent < 0 ? 1 : (*this)[parent].depth + 1});
  children_[at].end = size();
}

std::vector<double>& DraftTree::new_source(std::int32_t parent) {
  const auto at = static_cast<std::size_t>(parent + 1);
  if (sources_.size() <= at) sources_.resize(at + 1);
  return sources_[at];
}

void DraftTree::resolve(std::span<const std::int32_t> tokens) {
  for (Node& node : nodes_)
    if (node.token < 0) node.token = tokens[static_cast<std::size_t>(-1 - node.token)];
}

DraftTree::Range DraftTree::children(std::int32_t node) const {
  const auto at = static_cast<std::size_t>(node + 1);
  return at < children_.size() ? children_[at] : Range{};
}

DraftTree::Range DraftTree::at_depth(int depth) const {
  if (depth == 0) return {-1, 0};
  std::int32_t begin = 0;
  while (begin < size() && (*this)[begin].depth < depth) ++begin;
  std::int32_t end = begin;
  while (end < size() && (*this)[end].depth == depth) ++end;
  return {begin, end};
}

void DraftTree::append_branch(std::int32_t node, std::int32_t first, std::vector<std::int32_t>& slots) const {
  for (; node >= 0; node = (*this)[node].parent) slots.push_back(first + node);
}

}  // namespace foretoken

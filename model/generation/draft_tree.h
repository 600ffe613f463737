#pragma once
// Drafts of how a text may go on: a tree of tokens, to be verified by the model in one pass. A chain is a
// tree in which every node has one child.

#include <cstdint>
#include <span>
#include <vector>

namespace foretoken {

/// How many children nodes have, by depth: {1, 1, 1} is a chain of three, {3, 2} three tokens with two each.
using TreeShape = std::vector<int>;

constexpr std::int64_t most_drafts = 255;  // of one text and round

/// Nodes of a tree; stops counting past most_drafts.
std::int64_t drafts_in(const TreeShape& shape);
/// Cells that a decoder needs for them beyond those of positions: none for a chain.
std::int64_t branches_of(const TreeShape& shape);
/// A UsageError where a depth has no child, or there are more drafts than most_drafts.
void validate(const TreeShape& shape);

/// Nodes are numbered by depth, those of a depth by parent, children of a node in the order in which they
/// were drawn; −1 is the text.
class DraftTree {
 public:
  struct Node {
    std::int32_t token = 0;  // negative: one to come
    std::int32_t parent = -1;
    std::int32_t depth = 1;
  };
  struct Range {
    std::int32_t begin = 0, end = 0;
    std::int32_t count() const { return end - begin; }
  };

  void clear();
  /// A child of the node before which all nodes but the last have their children.
  void add(std::int32_t parent, std::int32_t token);
  /// To become the distribution [V] that a node's children are drawn from, one after another without putting
  /// back.
  std::vector<double>& new_source(std::int32_t parent);

  /// Of a decoder's choices: a token of −1 − i is the i-th.
  void learn(std::span<const std::int32_t> tokens);

  std::int32_t size() const { return static_cast<std::int32_t>(nodes_.size()); }
  bool empty() const { return nodes_.empty(); }
  const Node& operator[](std::int32_t node) const { return nodes_[static_cast<std::size_t>(node)]; }
  int depth() const { return empty() ? 0 : nodes_.back().depth; }
  Range children(std::int32_t node) const;
  const std::vector<double>& source(std::int32_t node) const {
    return sources_[static_cast<std::size_t>(node + 1)];
  }
  /// Depth 0 is the text alone.
  Range at_depth(int depth) const;
  /// Appends the nodes on the way to `node` from it back to the first, as cells that begin at `first`.
  void append_branch(std::int32_t node, std::int32_t first, std::vector<std::int32_t>& cells) const;

 private:
  std::vector<Node> nodes_;
  std::vector<Range> children_;  // by node + 1
  // By node + 1; clear() keeps their memory, of which a round needs much.
  std::vector<std::vector<double>> sources_;
};

}  // namespace foretoken

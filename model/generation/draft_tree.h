#pragma once
// The drafts that may continue a text: a tree of tokens that the model verifies in one pass. A chain is a
// tree with one node at every depth.

#include <cstdint>
#include <span>
#include <vector>

namespace foretoken {

/// Number of children per node, by depth: {1, 1, 1} is a chain of three tokens, {3, 2} is three tokens with
/// two children each.
using TreeShape = std::vector<int>;

constexpr std::int64_t most_drafts = 255;  // maximum per text and round

/// Number of nodes of a tree; counting stops above most_drafts.
std::int64_t drafts_in(const TreeShape& shape);
/// Number of slots that a decoder needs for the tree in addition to the slots of positions; 0 for a chain.
std::int64_t branches_of(const TreeShape& shape);
/// Throws a UsageError if a depth has no child or the tree has more than most_drafts nodes.
void validate(const TreeShape& shape);

/// Nodes are numbered by depth, within a depth by parent, and within a parent in the order in which they were
/// drawn; −1 is the text.
class DraftTree {
 public:
  struct Node {
    std::int32_t token = 0;  // negative: not yet read from the device (Decoder::chosen())
    std::int32_t parent = -1;
    std::int32_t depth = 1;
  };
  struct Range {
    std::int32_t begin = 0, end = 0;
    std::int32_t count() const { return end - begin; }
  };

  void clear();
  /// Adds a child. Parents must come in ascending order: nodes before `parent` get no more children.
  void add(std::int32_t parent, std::int32_t token);
  /// Returns the buffer for source(parent).
  std::vector<double>& new_source(std::int32_t parent);

  /// Replaces placeholders by values: token −1 − i becomes tokens[i] (Decoder::tokens()).
  void resolve(std::span<const std::int32_t> tokens);

  std::int32_t size() const { return static_cast<std::int32_t>(nodes_.size()); }
  bool empty() const { return nodes_.empty(); }
  const Node& operator[](std::int32_t node) const { return nodes_[static_cast<std::size_t>(node)]; }
  int depth() const { return empty() ? 0 : nodes_.back().depth; }
  Range children(std::int32_t node) const;
  /// The distribution [V] that the node's children were drawn from, one after another without replacement.
  const std::vector<double>& source(std::int32_t node) const {
    return sources_[static_cast<std::size_t>(node + 1)];
  }
  /// The nodes of a depth; depth 0 has one node, −1, the text.
  Range at_depth(int depth) const;
  /// Appends the slots of `node` and its ancestors, `node` first; node i has slot `first` + i.
  void append_branch(std::int32_t node, std::int32_t first, std::vector<std::int32_t>& slots) const;

 private:
  std::vector<Node> nodes_;
  std::vector<Range> children_;  // indexed by node + 1
  // Indexed by node + 1. clear() keeps these buffers for reuse, because they are large.
  std::vector<std::vector<double>> sources_;
};

}  // namespace foretoken

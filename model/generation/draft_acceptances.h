#pragma once
// The share of drafts that the model accepts, by depth, measured over recent rounds.

#include <cstddef>
#include <vector>

namespace foretoken {

class DraftAcceptances {
 public:
  /// For depths 1 to `deepest`.
  explicit DraftAcceptances(int deepest) : counts_(static_cast<std::size_t>(deepest) + 1) {}

  /// Records that one sequence drafted `depth` tokens in a round and `accepted` of them were kept.
  void record(std::size_t depth, std::size_t accepted);
  /// Reduces the weight of old counts of depths first..last, because the text may have changed: a few new
  /// drafts then outweigh them.
  void reduce_weight(int first, int last);

  /// Expected tokens of a round with draft depth k = `depth`: 1 + Σⱼ₌₁ᵏ a₁ · … · aⱼ. aⱼ is the share of
  /// drafts of depth j that are accepted, counted only where all shallower drafts were. A depth with few
  /// counts gets a share close to the previous depth's.
  double tokens(int depth) const;

 private:
  /// Weighted counts: each new draft reduces the weight of the earlier ones.
  struct Count {
    double accepted = 0, drafted = 0;
  };
  std::vector<Count> counts_;  // by depth; entry 0 is unused
};

}  // namespace foretoken

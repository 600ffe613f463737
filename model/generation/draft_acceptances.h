#pragma once
// How many drafts the model accepts, by depth, over the recent rounds.

#include <cstddef>
#include <vector>

namespace foretoken {

class DraftAcceptances {
 public:
  /// For depths 1 to `deepest`.
  explicit DraftAcceptances(int deepest) : counts_(static_cast<std::size_t>(deepest) + 1) {}

  /// Records that one sequence drafted `depth` tokens in a round and `accepted` of them were kept.
  void record(std::size_t depth, std::size_t accepted);
  /// Reduces the weight of what is known of depths first..last, because the text may have changed: a few new
  /// drafts then outweigh it.
  void reduce_weight(int first, int last);

  /// Expected tokens of a round that drafts this deep: 1 + Σⱼ₌₁ᵏ a₁ · … · aⱼ, with aⱼ the share of drafts of
  /// depth j that are accepted if all shallower ones were. The share of a depth with few observations is
  /// close to that of the previous depth.
  double tokens(int depth) const;

 private:
  /// Counts that decay with every new draft.
  struct Count {
    double accepted = 0, drafted = 0;
  };
  std::vector<Count> counts_;  // by depth; entry 0 is unused
};

}  // namespace foretoken

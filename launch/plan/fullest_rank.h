#pragma once
// The memory of the rank that needs the most, counted once per class of equal ranks.

#include <string>
#include <unordered_map>

#include "launch/session/rank_memory.h"

namespace foretoken {

struct FullestRank {
  int pp_rank = 0;
  RankMemory memory;
};

/// Counts with plan_memory() and remembers the results. Ranks whose stages hold equal parts of the model in
/// equal numbers of slots form a class, across layouts too; one of them is counted. Of ranks that differ only
/// in slots, the one with the most is counted, because a slot only adds tensors. One object serves layouts of
/// one configuration.
class RankMemoryCounter {
 public:
  /// The fullest pipeline rank of a layout; its data-parallel replicas need the same.
  FullestRank fullest(const SessionPlan& plan);

  std::size_t counted() const { return counted_.size(); }

 private:
  const RankMemory& count(const SessionPlan& plan, int pp_rank, const std::string& rank_class);

  std::unordered_map<std::string, RankMemory> counted_;  // by class
};

}  // namespace foretoken

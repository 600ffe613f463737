#include "launch/plan/fullest_rank.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>
#include <vector>

#include "model/layout.h"

namespace foretoken {

namespace {

/// Numbers in the order in which they were added, as a key.
class Key {
 public:
  void add(std::int64_t number) { text_.append(reinterpret_cast<const char*>(&number), sizeof number); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

/// What the memory of all ranks of a layout depends on, apart from their stages.
Key common_key(const SessionPlan& plan, const RankModelOptions& options) {
  Key key;
  key.add(options.shape.rows);
  key.add(static_cast<int>(options.recompute));
  key.add(options.split_backward);
  key.add(static_cast<int>(plan.config.mtp.placement));
  key.add(plan.config.parallel.sharded_optimizer);
  key.add(plan.grid().dp);
  key.add(plan.grid().pp == 1);
  if (plan.device.kind == DeviceKind::cuda) key.add(options.microbatches);  // their tokens are on the GPU
  return key;
}

/// A pipeline rank's stages. Layers are alike, unless FP8 leaves out some of them.
struct RankStages {
  std::string parts;       // what the stages hold
  std::vector<int> slots;  // by stage of the rank
};

RankStages stages_of(const SessionPlan& plan, const std::vector<int>& slots, int pp_rank) {
  const ModelLayout& layout = plan.layout;
  Key key;
  RankStages rank;
  for (const int stage : layout.stages_of(pp_rank)) {
    const auto begin = layout.halves_per_stage.begin();
    const int first_half = std::accumulate(begin, begin + stage, 0);
    key.add(layout.halves_per_stage[static_cast<std::size_t>(stage)]);
    key.add(plan.config.train.precision == TrainConfig::Precision::fp8 ? first_half : first_half % 2);
    key.add(stage == 0);
    key.add(std::max(-1, stage - layout.head_stage()));
    key.add(stage == layout.stages() - 1);
    rank.slots.push_back(slots.at(static_cast<std::size_t>(stage)));
  }
  rank.parts = key.text();
  return rank;
}

bool needs_no_more(const std::vector<int>& a, const std::vector<int>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), std::less_equal<>());
}

}  // namespace

const RankMemory& RankMemoryCounter::count(const SessionPlan& plan, int pp_rank,
                                           const std::string& rank_class) {
  const auto found = counted_.find(rank_class);
  if (found != counted_.end()) return found->second;
  return counted_.emplace(rank_class, plan_memory(plan, pp_rank, 0)).first->second;
}

FullestRank RankMemoryCounter::fullest(const SessionPlan& plan) {
  const RankModelOptions options = model_options(plan, 0);
  const Key common = common_key(plan, options);
  struct Candidate {
    int pp_rank;
    std::vector<int> slots;
  };
  std::map<std::string, std::vector<Candidate>> candidates;  // by parts: ranks of which none has more slots
  for (int pp_rank = 0; pp_rank < plan.grid().pp; ++pp_rank) {
    RankStages rank = stages_of(plan, options.slots, pp_rank);
    std::vector<Candidate>& alike = candidates[rank.parts];
    const auto covers = [&](const Candidate& other) { return needs_no_more(rank.slots, other.slots); };
    if (std::any_of(alike.begin(), alike.end(), covers)) continue;
    std::erase_if(alike, [&](const Candidate& other) { return needs_no_more(other.slots, rank.slots); });
    alike.push_back({pp_rank, std::move(rank.slots)});
  }
  FullestRank fullest;
  bool first = true;
  for (const auto& [parts, alike] : candidates)
    for (const Candidate& candidate : alike) {
      Key slots;
      for (const int count : candidate.slots) slots.add(count);
      const RankMemory& memory = count(plan, candidate.pp_rank, common.text() + parts + slots.text());
      if (!first && memory.allocated <= fullest.memory.allocated) continue;
      fullest = {candidate.pp_rank, memory};
      first = false;
    }
  return fullest;
}

}  // namespace foretoken

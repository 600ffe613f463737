#include "parallel/optimizer/shared_weights.h"

#include <algorithm>
#include <set>
#include <string>

#include "runtime/error.h"
#include "runtime/random.h"

namespace foretoken {

namespace {

/// Throws DefectError unless all members of a group share the same tensors in the same layout.
void require_same(Communicator& group, const std::string& tensors) {
  std::vector<std::int64_t> hashes(static_cast<std::size_t>(group.size()));
  hashes[static_cast<std::size_t>(group.rank())] = static_cast<std::int64_t>(hash_name(tensors));
  const Tensor all = tensor_over(std::span<std::int64_t>(hashes), {group.size()});
  group.host().all_gather(all.flat(group.rank(), 1), all);
  if (std::any_of(hashes.begin(), hashes.end(), [&](std::int64_t hash) { return hash != hashes[0]; }))
    throw DefectError("shared weights: \"{}\": the ranks share different tensors; this rank shares {}",
                      group.name(), tensors);
}

}  // namespace

SharedWeights::SharedWeights(const Parameters& parameters, const ShardPlan& plan,
                             const GradientReducer& reducer, const Groups& groups)
    : reducer_(reducer) {
  std::map<std::vector<int>, std::string> tensors;
  for (std::size_t b = 0; b < plan.buckets.size(); ++b) {
    const Bucket& bucket = plan.buckets[b];
    if (!bucket.shared) continue;
    const ParameterUnit& unit = parameters.units()[static_cast<std::size_t>(bucket.first_unit)];
    const auto group = groups.holders.find(unit.holders);
    if (group == groups.holders.end())
      throw DefectError("shared weights: unit \"{}\" is shared, but this rank is in no group of its holders",
                        unit.name);
    for (const ParameterSpec& spec : unit.specs)
      tensors[unit.holders] +=
          fmt::format("{} {} at {}, ", spec.name, to_string(spec.shape), spec.offset - unit.begin);
    if (bucket.frozen) continue;
    const Range owned = plan.owned(bucket);
    sums_.push_back({.bucket = static_cast<int>(b),
                     .holders = group->second.get(),
                     .gradient = parameters.gradients().flat(owned.begin, owned.size())});
  }
  for (const auto& [holders, group] : groups.holders) require_same(*group, tensors[holders]);
}

void SharedWeights::progress() {
  std::set<Communicator*> waiting;  // groups with a sum that cannot start yet; their later sums wait for it
  for (Sum& sum : sums_) {
    if (sum.started == steps_) {
      if (waiting.contains(sum.holders) || reducer_.reductions(sum.bucket) == steps_) {
        waiting.insert(sum.holders);
        continue;
      }
      sum.request = sum.holders->start_all_reduce(sum.gradient, ReduceOp::sum);
      ++sum.started;
    }
    sum.request.test();
  }
}

void SharedWeights::finish() {
  progress();
  for (Sum& sum : sums_) {
    if (sum.started == steps_)
      throw DefectError("shared weights: the step ended before bucket {} was reduced", sum.bucket);
    sum.request.wait();
  }
  ++steps_;
}

}  // namespace foretoken

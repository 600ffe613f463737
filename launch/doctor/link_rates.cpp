#include <utility>

#include "launch/doctor/measure.h"
#include "runtime/arena.h"

namespace foretoken {

namespace {

std::vector<int> world_ranks(Communicator& group, int own_rank) {
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(group.size()));
  const Tensor all = tensor_over<std::int32_t>(ranks, {group.size()});
  ranks[static_cast<std::size_t>(group.rank())] = own_rank;
  group.host().all_gather(all.flat(group.rank(), 1), all);
  return {ranks.begin(), ranks.end()};
}

}  // namespace

void measure_links(Groups& groups, Stream& stream, RankFacts& facts) {
  const bool gpu = stream.device() == DeviceKind::cuda;
  Arena arena(stream.device());
  const Tensor buffer = arena.tensor(DType::f32, {(gpu ? 64 : 8) << 18});  // MiB
  const int own = groups.world.rank();
  if (const auto rate = measure_next_link(*groups.pipeline, *groups.transport, buffer)) {
    facts.next_rank = groups.grid.rank_of(groups.pp_rank + 1, groups.dp_rank);
    facts.next = *rate;
  }
  const auto measure = [&](const char* name, Communicator& group) {
    std::vector<int> ranks = world_ranks(group, own);
    const int first = ranks.front();
    if (first != own) ranks.clear();
    facts.groups.push_back(
        {name, first, std::move(ranks), measure_all_reduce(group, *groups.transport, buffer)});
  };
  measure("world", *groups.device_world);
  if (groups.grid.dp > 1 && groups.grid.pp > 1) measure("data parallel", *groups.dp);
  for (const auto& [holders, group] : groups.holders)
    if (group->size() < groups.world.size()) measure("shared weights", *group);
}

}  // namespace foretoken

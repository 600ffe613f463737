#include <algorithm>
#include <cstring>
#include <limits>
#include <map>

#include "parallel/optimizer/shared_weights.h"
#include "runtime/error.h"
#include "runtime/operators/parameters/reductions.h"

namespace foretoken {

namespace {

struct Fingerprints {
  std::vector<const ParameterSpec*> specs;
  std::vector<std::int64_t> hashes;
};

/// Index of the first fingerprint that differs between ranks; hashes.size() if all are equal.
std::size_t first_difference(Communicator& group, const std::vector<std::int64_t>& hashes) {
  std::vector<std::int64_t> extremes;  // max s and max ~s; the latter is ~(min s)
  extremes.reserve(2 * hashes.size());
  for (const std::int64_t hash : hashes) {
    extremes.push_back(hash);
    extremes.push_back(~hash);
  }
  group.all_reduce(tensor_over(std::span(extremes), {static_cast<std::int64_t>(extremes.size())}),
                   ReduceOp::max);
  std::size_t i = 0;
  while (i < hashes.size() && extremes[2 * i] == ~extremes[2 * i + 1]) ++i;
  return i;
}

/// Returns the name of rank `from` on every rank.
std::string broadcast_name(Communicator& world, const std::string& name, int from) {
  auto length = static_cast<std::int64_t>(name.size());
  world.broadcast(tensor_over(std::span(&length, 1), {1}), from);
  std::vector<std::uint8_t> text(static_cast<std::size_t>(length));
  if (world.rank() == from) std::memcpy(text.data(), name.data(), name.size());
  world.broadcast(tensor_over(std::span(text), {length}), from);
  return {text.begin(), text.end()};
}

std::string to_string(const Grid& grid, int rank) {
  return fmt::format("rank {} (pp{} dp{})", rank, grid.pp_rank_of(rank), grid.dp_rank_of(rank));
}

/// Gathers each rank's fingerprint of the tensor and names the first rank that differs from the majority.
[[noreturn]] void throw_difference(const Groups& groups, const std::string& name, const Fingerprints& own) {
  struct Held {
    std::int64_t holds = 0;
    std::int64_t hash = 0;
  };
  std::vector<Held> held(static_cast<std::size_t>(groups.world.size()));
  Held& mine = held[static_cast<std::size_t>(groups.world.rank())];
  for (std::size_t i = 0; i < own.specs.size(); ++i)
    if (own.specs[i]->name == name) mine = {1, own.hashes[i]};
  const Tensor all{held.data(), DType::i64, DeviceKind::cpu, {static_cast<std::int64_t>(2 * held.size())}};
  groups.world.all_gather(all.flat(2 * groups.world.rank(), 2), all);

  std::map<std::int64_t, int> votes;
  for (const Held& each : held)
    if (each.holds) ++votes[each.hash];
  int reference = -1, votes_of_reference = 0;
  for (int r = 0; r < groups.world.size(); ++r) {
    const Held& each = held[static_cast<std::size_t>(r)];
    if (each.holds && votes[each.hash] > votes_of_reference) {  // the first rank wins a tie
      reference = r;
      votes_of_reference = votes[each.hash];
    }
  }
  std::string others;
  int different = -1;
  for (int r = 0; r < groups.world.size(); ++r) {
    const Held& each = held[static_cast<std::size_t>(r)];
    if (!each.holds || each.hash == held[static_cast<std::size_t>(reference)].hash) continue;
    if (different < 0)
      different = r;
    else
      others += fmt::format(", and so does {}", to_string(groups.grid, r));
  }
  throw NumericalError("{}: replica of {} differs from {} (fingerprints {:016x} and {:016x}){}", name,
                       to_string(groups.grid, different), to_string(groups.grid, reference),
                       static_cast<std::uint64_t>(held[static_cast<std::size_t>(different)].hash),
                       static_cast<std::uint64_t>(held[static_cast<std::size_t>(reference)].hash), others);
}

}  // namespace

void check_replicas(Stream& stream, const Parameters& parameters, const Groups& groups) {
  Fingerprints all;
  std::map<std::vector<int>, Fingerprints> shared;  // key: the holders
  for (const ParameterUnit& unit : parameters.units())
    for (const ParameterSpec& spec : unit.specs) {
      const std::int64_t hash = fingerprint_of(stream, Parameters::view(parameters.weights(), spec));
      all.specs.push_back(&spec);
      all.hashes.push_back(hash);
      if (!unit.shared()) continue;
      shared[unit.holders].specs.push_back(&spec);
      shared[unit.holders].hashes.push_back(hash);
    }

  const ParameterSpec* different = nullptr;
  const std::size_t in_dp = first_difference(groups.dp->host(), all.hashes);
  if (in_dp < all.hashes.size()) different = all.specs[in_dp];
  for (const auto& [holders, own] : shared) {
    const std::size_t at = first_difference(groups.holders.at(holders)->host(), own.hashes);
    if (at < own.hashes.size() && different == nullptr) different = own.specs[at];
  }

  std::int32_t reporter = different ? groups.world.rank() : std::numeric_limits<std::int32_t>::max();
  groups.world.all_reduce(tensor_over(std::span(&reporter, 1), {1}), ReduceOp::min);
  if (reporter == std::numeric_limits<std::int32_t>::max()) return;
  throw_difference(groups, broadcast_name(groups.world, different ? different->name : "", reporter), all);
}

}  // namespace foretoken

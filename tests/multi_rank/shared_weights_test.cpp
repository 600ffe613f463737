#include <algorithm>
#include <cmath>

#include "runtime/error.h"
#include "tests/multi_rank/toy_model.h"

using namespace foretoken;

namespace {

bool holds(const ToyRank& toy, const std::string& name) {
  for (const ParameterUnit& unit : toy.parameters.units())
    for (const ParameterSpec& spec : unit.specs)
      if (spec.name == name) return true;
  return false;
}

}  // namespace

TEST_CASE("all holders sum the gradient of their shared units", "[ranks1][ranks2][ranks3][ranks4]") {
  for (const Layout& layout : layouts_of(multi_rank::world().size())) {
    INFO(to_string(layout));
    ToyRank toy(layout, {});
    SerialToy serial(layout.grid, {});
    for (int step = 1; step <= 3; ++step) {
      toy.make_gradients(step);
      toy.reduce();
      serial.sum_gradients(step);
      for (const Bucket& bucket : toy.plan.buckets) {
        if (!bucket.shared) continue;
        for (const ParameterSpec& spec :
             toy.parameters.units()[static_cast<std::size_t>(bucket.first_unit)].specs) {
          const Range range =
              intersection({spec.offset, spec.offset + spec.shape.elements()}, toy.plan.owned(bucket));
          if (range.empty()) continue;
          const auto expected = std::span(serial.states.at(spec.name).gradient)
                                    .subspan(static_cast<std::size_t>(range.begin - spec.offset),
                                             static_cast<std::size_t>(range.size()));
          CHECK(difference(toy.parameters.gradients().flat(range.begin, range.size()).span<float>(), expected,
                           spec.name) == "");
        }
      }
    }
  }
}

TEST_CASE("a rank may start the sum before another rank's gradient is ready", "[ranks2]") {
  ToyRank toy({.grid = {.pp = 2, .dp = 1}}, {});
  toy.make_gradients(1);
  const auto finish_backward = [&] {
    for (int unit = 0; unit < static_cast<int>(toy.parameters.units().size()); ++unit)
      toy.reducer.unit_ready(unit);
    toy.reducer.finish();
    toy.shared.progress();
  };
  const auto sums_started = [&] {
    const FlightRecord record = multi_rank::world().world().recorder().record();
    return std::count_if(record.operations.begin(), record.operations.end(), [&](const auto& operation) {
      return operation.name == "all-reduce" &&
             record.channels[static_cast<std::size_t>(operation.channel)].name.starts_with("pp0,1 of dp0");
    });
  };
  const auto before = sums_started();
  toy.shared.progress();
  CHECK(sums_started() == before);
  if (toy.groups.pp_rank == 1) {
    finish_backward();
    CHECK(sums_started() == before + 1);
  }
  multi_rank::world().barrier();
  if (toy.groups.pp_rank == 0) finish_backward();
  toy.shared.finish();
}

TEST_CASE("units with different holders are summed over their own holders", "[ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  ThreadPool threads(1);
  Stream stream(threads);
  // Name and holders of each shared unit.
  const std::vector<std::pair<std::string, std::vector<int>>> shared{
      {"a", {0, 1, 2}}, {"b", {1, 2}}, {"c", {0, 2}}, {"d", {0, 1, 2}}, {"e", {1, 2}}};
  const Groups groups =
      make_groups(world, {.pp = world.size(), .dp = 1}, stream, {{0, 1, 2}, {0, 2}, {1, 2}});
  const int rank = groups.pp_rank;
  std::vector<ParameterUnit> units{{.name = "own", .specs = {{.name = "own", .shape = {3}}}}};
  for (std::size_t i = 0; i < shared.size(); ++i) {
    const auto& [name, holders] = shared[i];
    if (std::find(holders.begin(), holders.end(), rank) == holders.end()) continue;
    units.push_back({.name = name,
                     .holders = holders,
                     .canonical = holders.front() == rank,
                     .specs = {{.name = name, .shape = {5}}}});
  }
  Arena arena(DeviceKind::cpu);
  const Parameters parameters(arena, {}, units, 1);
  const ShardPlan plan = plan_shards(parameters, {.bucket_bytes = 1 << 20});
  GradientReducer reducer(parameters, plan, *groups.dp);
  SharedWeights weights(parameters, plan, reducer, groups);
  for (int step = 0; step < 2; ++step) {
    for (const ParameterUnit& unit : parameters.units())
      fill(stream, parameters.gradient(unit.specs.front().name), std::pow(10, rank));
    // Units become final in a different order on each rank.
    const int count = static_cast<int>(parameters.units().size());
    for (int i = 0; i < count; ++i) {
      reducer.unit_ready(rank == 1 ? count - 1 - i : (i + rank) % count);
      weights.progress();
    }
    reducer.finish();
    weights.finish();
    for (const ParameterUnit& unit : parameters.units()) {
      double expected = unit.shared() ? 0 : std::pow(10, rank);
      for (const int holder : unit.holders) expected += std::pow(10, holder);
      INFO(unit.name);
      for (const float value : parameters.gradient(unit.specs.front().name).span<float>())
        CHECK(value == static_cast<float>(expected));
    }
  }
}

TEST_CASE("a step that ends without a shared gradient is a defect", "[ranks2]") {
  ToyRank toy({.grid = {.pp = 2, .dp = 1}}, {});
  CHECK_THROWS_AS(toy.shared.finish(), DefectError);
  toy.make_gradients(1);
  toy.reduce();  // completes the pending sums
}

TEST_CASE("holders with different shared tensors are refused", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  ThreadPool threads(1);
  Stream stream(threads);
  const Groups groups = make_groups(world, {.pp = 2, .dp = 1}, stream, {{0, 1}});
  Arena arena(DeviceKind::cpu);
  const Parameters parameters(
      arena, {},
      {{.name = "embedding",
        .holders = {0, 1},
        .specs = {{.name = "embed", .shape = {world.rank() == 0 ? 4 : 2, world.rank() == 0 ? 2 : 4}}}}},
      1);
  const ShardPlan plan = plan_shards(parameters, {.bucket_bytes = 1 << 20});
  const GradientReducer reducer(parameters, plan, *groups.dp);
  CHECK_THROWS_AS(SharedWeights(parameters, plan, reducer, groups), DefectError);
  const Groups alone = make_groups(world, {.pp = 2, .dp = 1}, stream);
  CHECK_THROWS_WITH(SharedWeights(parameters, plan, reducer, alone),
                    testing::contains("\"embedding\" is shared, but"));
}

TEST_CASE("one changed element of any replica stops all ranks, naming tensor and ranks",
          "[ranks2][ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const std::string tensor =
      GENERATE(as<std::string>{}, "embed", "scale", "layers.0.norm", "layers.5.weight");
  for (const Layout& layout : layouts_of(world.size())) {
    if (layout.sharded || layout.bucket_bytes > 1) continue;  // check_replicas() reads neither of them
    const Grid& grid = layout.grid;
    ToyRank toy(layout, {});
    CHECK_NOTHROW(check_replicas(toy.stream, toy.parameters, toy.groups));

    std::vector<std::int32_t> holders(static_cast<std::size_t>(world.size()));
    holders[static_cast<std::size_t>(world.rank())] = holds(toy, tensor) ? 1 : 0;
    world.all_reduce(tensor_over(std::span(holders), {world.size()}));
    const auto replicas = std::count(holders.begin(), holders.end(), 1);
    if (replicas < 2) continue;

    for (int corrupted = 0; corrupted < world.size(); ++corrupted) {
      if (!holders[static_cast<std::size_t>(corrupted)]) continue;
      INFO(to_string(layout) << ": " << tensor << " of rank " << corrupted);
      float* element = world.rank() == corrupted ? toy.parameters.value(tensor).as<float>() + 2 : nullptr;
      const float right = element ? *element : 0;
      if (element) *element = std::nextafter(right, 100.0f);
      std::string message;
      try {
        check_replicas(toy.stream, toy.parameters, toy.groups);
      } catch (const NumericalError& error) {
        message = error.what();
      }
      CHECK_THAT(message, Catch::Matchers::StartsWith(tensor + ": replica of rank "));
      const std::string culprit = fmt::format("rank {} (pp{} dp{})", corrupted, grid.pp_rank_of(corrupted),
                                              grid.dp_rank_of(corrupted));
      if (replicas > 2)
        CHECK_THAT(message, testing::contains("replica of " + culprit + " differs from"));
      else
        CHECK_THAT(message, testing::contains(culprit));
      if (element) *element = right;
      CHECK_NOTHROW(check_replicas(toy.stream, toy.parameters, toy.groups));
    }
  }
}

TEST_CASE("each group has the ranks that the grid defines", "[ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  ThreadPool threads(1);
  Stream stream(threads);
  const Groups groups = make_groups(world, {.pp = 2, .dp = 2}, stream, {{0, 1}});
  CHECK(groups.pp_rank == world.rank() % 2);
  CHECK(groups.dp_rank == world.rank() / 2);
  CHECK(groups.pipeline->name() == fmt::format("pipeline of dp{}", groups.dp_rank));
  CHECK(groups.pipeline->rank() == groups.pp_rank);
  CHECK(groups.dp->rank() == groups.dp_rank);
  CHECK(groups.holders.at({0, 1})->rank() == groups.pp_rank);
  const Groups line = make_groups(world, {.pp = 4, .dp = 1}, stream, {{0, 1, 3}, {2, 3}});
  CHECK(line.holders.contains({0, 1, 3}) == (world.rank() != 2));
  CHECK(line.holders.contains({2, 3}) == (world.rank() >= 2));
  if (world.rank() == 3) CHECK(line.holders.at({0, 1, 3})->rank() == 2);
  CHECK_THROWS_AS(make_groups(world, {.pp = 3, .dp = 2}, stream), UsageError);
}

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

TEST_CASE("both ends sum the gradient of what they share", "[ranks1][ranks2][ranks3][ranks4]") {
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

TEST_CASE("the last rank's gradient goes out before the first rank's is ready", "[ranks2]") {
  ToyRank toy({.grid = {.pp = 2, .dp = 1}}, {});
  toy.make_gradients(1);
  const auto finish_backward = [&] {
    for (int unit = 0; unit < static_cast<int>(toy.parameters.units().size()); ++unit)
      toy.reducer.unit_ready(unit);
    toy.reducer.finish();
    toy.shared.progress();
  };
  toy.shared.progress();
  if (toy.groups.pp_rank == 1) finish_backward();
  multi_rank::world().barrier();  // the last rank has sent all it will send
  if (toy.groups.pp_rank == 0)
    CHECK(poll_until(Seconds{30}, [&] {
      toy.shared.progress();
      const auto entries = multi_rank::world().world().recorder().entries();
      return std::any_of(entries.begin(), entries.end(), [](const FlightRecorder::Entry& entry) {
        return entry.operation == std::string("receive") && entry.finished >= 0 &&
               entry.communicator.data() == std::string("ends of dp0");
      });
    }));
  if (toy.groups.pp_rank == 0) finish_backward();
  toy.shared.finish(toy.stream);
}

TEST_CASE("a step that ends without the shared gradient is a defect", "[ranks2]") {
  ToyRank toy({.grid = {.pp = 2, .dp = 1}}, {});
  CHECK_THROWS_AS(toy.shared.finish(toy.stream), DefectError);
  toy.make_gradients(1);
  toy.reduce();  // completes what was started
}

TEST_CASE("ends that share different tensors are refused", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  ThreadPool threads(1);
  Stream stream(threads);
  const Groups groups = make_groups(world, {.pp = 2, .dp = 1}, stream);
  Arena arena(DeviceKind::cpu);
  const Parameters parameters(
      arena, {},
      {{.name = "embedding",
        .shared = true,
        .specs = {{.name = "embed", .shape = {world.rank() == 0 ? 4 : 2, world.rank() == 0 ? 2 : 4}}}}},
      1);
  const ShardPlan plan = plan_shards(parameters, 1 << 20, false, 1, 0);
  const GradientReducer reducer(parameters, plan, *groups.dp);
  CHECK_THROWS_AS(SharedWeights(arena, parameters, plan, reducer, groups.ends.get()), DefectError);
  CHECK_THROWS_WITH(SharedWeights(arena, parameters, plan, reducer, nullptr),
                    testing::contains("\"embedding\" is shared, but"));
}

TEST_CASE("one changed element of any replica stops all ranks, naming tensor and ranks",
          "[ranks2][ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const std::string tensor =
      GENERATE(as<std::string>{}, "embed", "scale", "layers.0.norm", "layers.5.weight");
  for (const Layout& layout : layouts_of(world.size())) {
    if (layout.sharded || layout.bucket_bytes > 1) continue;  // neither matters here
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

TEST_CASE("groups follow the grid", "[ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  ThreadPool threads(1);
  Stream stream(threads);
  const Groups groups = make_groups(world, {.pp = 2, .dp = 2}, stream);
  CHECK(groups.pp_rank == world.rank() % 2);
  CHECK(groups.dp_rank == world.rank() / 2);
  CHECK(groups.pipeline->name() == fmt::format("pipeline of dp{}", groups.dp_rank));
  CHECK(groups.pipeline->rank() == groups.pp_rank);
  CHECK(groups.dp->rank() == groups.dp_rank);
  CHECK(groups.ends->rank() == groups.pp_rank);
  const Groups line = make_groups(world, {.pp = 4, .dp = 1}, stream);
  CHECK((line.ends != nullptr) == (world.rank() == 0 || world.rank() == 3));
  CHECK_THROWS_AS(make_groups(world, {.pp = 3, .dp = 2}, stream), UsageError);
}

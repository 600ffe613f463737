#include "runtime/error.h"
#include "tests/multi_rank/toy_model.h"

using namespace foretoken;

namespace {

/// Describes the first difference of this rank's reduced gradients from the sum over the dp ranks, or returns
/// an empty string. The sum of a shared unit covers only this stage's replica.
std::string unlike_the_sum(ToyRank& toy, int step) {
  const Tensor gradients = toy.parameters.gradients();
  for (const Bucket& bucket : toy.plan.buckets)
    for (int u = bucket.first_unit; u < bucket.end_unit; ++u) {
      const ParameterUnit& unit = toy.parameters.units()[static_cast<std::size_t>(u)];
      for (const ParameterSpec& spec : unit.specs) {
        const Range all{spec.offset, spec.offset + spec.shape.elements()};
        const Range range = intersection(all, toy.plan.owned(bucket));
        for (std::int64_t i = range.begin; i < range.end; ++i) {
          float sum = 0;
          for (int d = 0; d < toy.plan.dp; ++d)
            sum += toy_gradient(spec.name, d, toy.side_of(unit), step, i - all.begin);
          if (!(gradients.as<float>()[i] == sum))
            return fmt::format("{}[{}] is {}, {} expected", spec.name, i - all.begin,
                               gradients.as<float>()[i], sum);
        }
      }
    }
  return "";
}

}  // namespace

TEST_CASE("gradients are summed over data-parallel ranks in every layout",
          "[ranks1][ranks2][ranks3][ranks4]") {
  for (const Layout& layout : layouts_of(multi_rank::world().size())) {
    INFO(to_string(layout));
    ToyRank toy(layout, {});
    for (int step = 1; step <= 3; ++step) {
      toy.make_gradients(step);
      for (int unit = static_cast<int>(toy.parameters.units().size()) - 1; unit >= 0; --unit)
        toy.reducer.unit_ready(unit);
      toy.reducer.finish();
      CHECK(unlike_the_sum(toy, step) == "");
      for (int b = 0; b < static_cast<int>(toy.plan.buckets.size()); ++b)
        CHECK(toy.reducer.reductions(b) == step);
    }
  }
}

TEST_CASE("ranks whose units become ready in different orders reduce the same buckets", "[ranks2][ranks4]") {
  const bool sharded = GENERATE(false, true);
  ToyRank toy({.grid = {.pp = 1, .dp = multi_rank::world().size()}, .sharded = sharded, .bucket_bytes = 1},
              {});
  const int units = static_cast<int>(toy.parameters.units().size());
  for (int step = 1; step <= 3; ++step) {
    toy.make_gradients(step);
    for (int i = 0; i < units; ++i) toy.reducer.unit_ready((i * 3 + step * toy.groups.dp_rank) % units);
    toy.reducer.finish();
    CHECK(unlike_the_sum(toy, step) == "");
  }
}

TEST_CASE("a bucket is reduced before others are ready", "[ranks2][ranks4]") {
  ToyRank toy({.grid = {.pp = 1, .dp = multi_rank::world().size()}, .bucket_bytes = 1}, {});
  const int last = static_cast<int>(toy.parameters.units().size()) - 1;
  for (int step = 1; step <= 2; ++step) {
    toy.make_gradients(step);
    toy.reducer.unit_ready(last);
    if (step == 2)
      CHECK(poll_until(Seconds{30}, [&] {
        toy.reducer.progress();
        return toy.reducer.reductions(last) == 2;
      }));
    for (int unit = last - 1; unit >= 0; --unit) {
      CHECK(toy.reducer.reductions(unit) == step - 1);
      toy.reducer.unit_ready(unit);
    }
    toy.reducer.finish();
    CHECK(unlike_the_sum(toy, step) == "");
  }
}

TEST_CASE("a single data-parallel rank sends nothing", "[ranks1]") {
  ToyRank toy({.grid = {.pp = 1, .dp = 1}, .sharded = true}, {});
  const auto operations = [] {
    return multi_rank::world().world().recorder().record().operations.back().number;
  };
  const auto before = operations();
  toy.make_gradients(1);
  toy.reduce();
  CHECK(operations() == before);
  CHECK(unlike_the_sum(toy, 1) == "");
}

TEST_CASE("a unit that is ready twice, never ready, or unknown is named", "[ranks1]") {
  ToyRank toy({.grid = {.pp = 1, .dp = 1}}, {});
  toy.reducer.unit_ready(2);
  CHECK_THROWS_WITH(toy.reducer.unit_ready(2), testing::contains("\"layer 1\" is ready twice"));
  CHECK_THROWS_AS(toy.reducer.unit_ready(-1), DefectError);
  CHECK_THROWS_AS(toy.reducer.unit_ready(8), DefectError);
  CHECK_THROWS_WITH(toy.reducer.finish(), testing::contains("before unit \"embedding\" was ready"));
}

TEST_CASE("a plan for a different group is refused", "[ranks2]") {
  ToyRank toy({.grid = {.pp = 1, .dp = 2}}, {});
  const ShardPlan serial = plan_shards(toy.parameters, {.bucket_bytes = 1});
  CHECK_THROWS_AS(GradientReducer(toy.parameters, serial, *toy.groups.dp), DefectError);
}

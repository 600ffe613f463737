#include "runtime/error.h"
#include "tests/multi_rank/toy_model.h"
#include "tests/support/catch.h"

using namespace foretoken;

namespace {

/// Whether a unit's values are those of the model in one piece.
bool is_whole(const ToyRank& toy, const SerialToy& serial, const ParameterUnit& unit) {
  return std::all_of(unit.specs.begin(), unit.specs.end(), [&](const ParameterSpec& spec) {
    return difference(toy.parameters.value(spec.name).span<float>(), serial.states.at(spec.name).value,
                      spec.name)
        .empty();
  });
}

}  // namespace

TEST_CASE("a unit's weights are whole when it is needed, wherever its bucket lies", "[ranks2][ranks4]") {
  for (const Layout& layout : layouts_of(multi_rank::world().size())) {
    INFO(to_string(layout));
    const bool cut = layout.sharded && layout.grid.dp > 1;
    ToyRank toy(layout, {});
    SerialToy serial(layout.grid, {});
    for (int step = 1; step <= 2; ++step) {
      serial.train(step, 0.01);
      toy.make_gradients(step);
      toy.reduce();
      toy.optimizer.step(toy.stream, 0.01, step);
      toy.weights.parts_changed();
      const std::vector<ParameterUnit>& all = toy.parameters.units();
      CHECK(std::all_of(all.begin(), all.end(),
                        [&](const ParameterUnit& unit) { return is_whole(toy, serial, unit); }) != cut);
      toy.weights.start();
      const int units = static_cast<int>(all.size());
      for (int i = 0; i < units; ++i) {
        const int unit = (i * 5 + step) % units;  // pipelines with virtual stages begin anywhere
        toy.weights.unit_needed(unit);
        CHECK(is_whole(toy, serial, all[static_cast<std::size_t>(unit)]));
        toy.weights.unit_needed(unit);
        toy.weights.progress();
      }
      toy.weights.finish();
    }
  }
}

TEST_CASE("weights that are needed before they are gathered are named", "[ranks2]") {
  ToyRank toy({.grid = {.pp = 1, .dp = 2}, .sharded = true}, {});
  CHECK_NOTHROW(toy.weights.unit_needed(2));
  toy.weights.parts_changed();
  CHECK_THROWS_WITH(toy.weights.unit_needed(2), testing::contains("\"layer 1\" is needed"));
  toy.weights.finish();
  CHECK_NOTHROW(toy.weights.unit_needed(2));
}

TEST_CASE("nothing is gathered where the optimizer is not sharded", "[ranks2]") {
  ToyRank toy({.grid = {.pp = 1, .dp = 2}}, {});
  const auto operations = [] { return multi_rank::world().world().recorder().entries().back().sequence; };
  const auto before = operations();
  toy.weights.parts_changed();
  toy.weights.finish();
  CHECK(operations() == before);
}

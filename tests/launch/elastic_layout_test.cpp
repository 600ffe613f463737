#include "launch/config/elastic_layout.h"

#include <algorithm>
#include <limits>

#include "launch/config/layout.h"
#include "parallel/planning/partition_for_step.h"
#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;

namespace {

Config model_of(int layers, int pp, int dp) {
  Config config;
  config.data.path = "data.h5";
  config.model.num_hidden_layers = layers;
  config.train.global_batch = 8;
  config.train.microbatch = 1;
  config.parallel.pp = pp;
  config.parallel.dp = dp;
  return config;
}

}  // namespace

TEST_CASE("a layout that fits the ranks stays, even if another would be faster") {
  const Config config = model_of(4, 2, 2);
  CHECK(is_same_layout(layout_for(config, 4).parallel, config.parallel));
  CHECK(is_same_layout(layout_for_at_most(config, 4).parallel, config.parallel));
}

TEST_CASE("three ranks of pp 2 × dp 2 use pp 3, since dp 3 does not divide the batch") {
  const Config chosen = layout_for(model_of(4, 2, 2), 3);
  CHECK(chosen.parallel.pp == 3);
  CHECK(chosen.parallel.dp == 1);
}

TEST_CASE("a layout whose ranks hold no more of the model is preferred to a faster one") {
  // dp 4 would have no bubble, but every rank would hold the whole model.
  const Config chosen = layout_for(model_of(8, 4, 2), 4);
  CHECK(chosen.parallel.pp == 4);
  // If there is no such layout, the fastest is chosen.
  CHECK(layout_for(model_of(8, 4, 2), 2).parallel.pp < 4);
}

TEST_CASE("if no layout uses all ranks, layout_for_at_most() returns the fastest that uses fewer") {
  // 7 is not a multiple of a divisor of 8, and 2 layers do not fill 7 stages.
  const Config config = model_of(2, 2, 4);
  CHECK_THROWS_AS(layout_for(config, 7), UsageError);
  const Config chosen = layout_for_at_most(config, 7);
  CHECK(chosen.parallel.pp * chosen.parallel.dp <= 7);
  CHECK(chosen.parallel.pp * chosen.parallel.dp >= 4);
  CHECK(chosen.parallel.pp >= 2);
}

TEST_CASE("a schedule that the new layout cannot run is replaced by 1F1B without virtual stages") {
  Config config = model_of(4, 2, 1);
  config.parallel.schedule = "interleaved_1f1b";
  config.parallel.virtual_stages = 4;
  config.parallel.blocks_per_stage = {0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5};
  const Config chosen = layout_for(config, 3);
  CHECK(chosen.parallel.pp == 3);
  CHECK(chosen.parallel.virtual_stages == 1);
  CHECK(chosen.parallel.schedule == "1f1b");
  CHECK(chosen.parallel.blocks_per_stage.empty());
}

TEST_CASE("a layout is judged by the partition that training would choose, of all legal layouts") {
  for (const int ranks : {5, 6, 7, 11})
    for (const char* schedule : {"1f1b", "zero_bubble_h1"}) {
      Config config = model_of(11, 1, 16);  // no layout holds more of the model
      config.train.global_batch = 24;
      config.parallel.schedule = schedule;
      config.mtp.depths = 2;
      double shortest = std::numeric_limits<double>::infinity();
      const auto step_of = [](const Config& tried) {
        const Grid grid{tried.parallel.pp, tried.parallel.dp};
        return step_length(layer_costs(tried, Purpose::train), tried.parallel.schedule, shape_of(tried, grid),
                           resolve_layout(tried, grid, Purpose::train).halves_per_stage);
      };
      for (int pp = 1; pp <= ranks; ++pp) {
        const int dp = ranks / pp;
        if (pp * dp != ranks || 24 % dp != 0) continue;
        config.parallel.pp = pp;
        config.parallel.dp = dp;
        shortest = std::min(shortest, step_of(config));
      }
      config.parallel.pp = 1;
      config.parallel.dp = 16;
      INFO(ranks << " ranks, " << schedule);
      CHECK(step_of(layout_for(config, ranks)) <= shortest * (1 + 1e-3));
    }
}

#include "parallel/grid.h"

#include "parallel/optimizer/shard_plan.h"
#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE("ranks of one pipeline are neighbours") {
  const Grid grid{.pp = 3, .dp = 2, .virtual_stages = 2};
  CHECK(grid.world() == 6);
  CHECK(grid.stages() == 6);
  CHECK(grid.rank_of(2, 0) == 2);
  CHECK(grid.rank_of(0, 1) == 3);
  for (int rank = 0; rank < grid.world(); ++rank)
    CHECK(grid.rank_of(grid.pp_rank_of(rank), grid.dp_rank_of(rank)) == rank);
  CHECK(grid.pp_rank_of_stage(4) == 1);
  CHECK(to_string(grid) == "pp 3 × dp 2 × v 2");
}

TEST_CASE("a grid whose product is not the world's size is an error with both numbers") {
  CHECK_NOTHROW(validate({.pp = 2, .dp = 2, .virtual_stages = 3}, 4));
  CHECK_THROWS_WITH(validate({.pp = 2, .dp = 3}, 4), "parallel: pp 2 × dp 3 = 6, but the world has 4 ranks");
  CHECK_THROWS_WITH(validate({.pp = 2, .dp = 1}, 1), "parallel: pp 2 × dp 1 = 2, but the world has 1 rank");
  CHECK_THROWS_AS(validate({.pp = 0, .dp = 1}, 0), UsageError);
  CHECK_THROWS_AS(validate({.pp = 1, .dp = -1}, 1), UsageError);
  CHECK_THROWS_AS(validate({.pp = 1, .dp = 1, .virtual_stages = 0}, 1), UsageError);
}

TEST_CASE("the parts of a range cover it without overlap") {
  const Range range{10, 34};
  CHECK(part_of(range, 3, 0) == Range{10, 18});
  CHECK(part_of(range, 3, 2) == Range{26, 34});
  CHECK(intersection(range, {30, 40}) == Range{30, 34});
  CHECK(intersection(range, {40, 50}).empty());
  CHECK(intersection({40, 50}, range).empty());
}

TEST_CASE("buckets are consecutive units up to their size, and a shared unit has its own bucket") {
  Arena arena(DeviceKind::cpu);
  const auto unit = [](const char* name, std::int64_t elements, bool shared) {
    return ParameterUnit{.name = name,
                         .holders = shared ? std::vector<int>{0, 1} : std::vector<int>{},
                         .specs = {{.name = name, .shape = {elements}}}};
  };
  const Parameters parameters(arena, {},
                              {unit("a", 7, false), unit("b", 8, false), unit("c", 1, false),
                               unit("s", 3, true), unit("d", 40, false), unit("e", 2, false)},
                              4);
  const ShardPlan plan =
      plan_shards(parameters, {.bucket_bytes = 16 * 4, .dp = 4, .dp_rank = 1, .sharded = true});
  REQUIRE(plan.buckets.size() == 5);
  CHECK(plan.buckets[0].range == Range{0, 16});  // unit a with padding, and unit b
  CHECK(plan.buckets[0].end_unit == 2);
  CHECK(plan.buckets[1].range == Range{16, 20});
  CHECK(plan.buckets[2].range == Range{20, 24});
  CHECK(plan.buckets[2].shared);
  CHECK(plan.buckets[3].range == Range{24, 64});  // larger than bucket_bytes, but not split
  CHECK(plan.buckets[4].range == Range{64, 68});
  CHECK(plan.owned(plan.buckets[0]) == Range{4, 8});
  CHECK(plan_shards(parameters, {.bucket_bytes = 1 << 20, .dp = 4, .dp_rank = 1}).buckets.size() == 3);

  CHECK_THROWS_WITH(plan_shards(parameters, {.bucket_bytes = 64, .dp = 3, .sharded = true}),
                    "shard plan: unit \"a\" has 8 elements, not a multiple of dp 3");
}

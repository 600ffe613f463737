#include "parallel/planning/links.h"

#include <vector>

#include "tests/support/catch.h"

using namespace foretoken;

namespace {

constexpr Links machine{.inside = {.latency = 1, .bandwidth = 100},
                        .between = {.latency = 10, .bandwidth = 20},
                        .per_node = 8,
                        .adapters = 4};

double seconds(Collective kind, double bytes, const GroupSpan& group) {
  return collective_seconds(kind, bytes, group, machine);
}

}  // namespace

TEST_CASE("a data-parallel group spans the nodes on which its pipelines lie") {
  const auto span = [](const Grid& grid, int pp_rank) {
    const GroupSpan group = data_parallel_span(grid, pp_rank, machine);
    return std::vector<int>{group.ranks, group.nodes, group.per_node};
  };
  CHECK(span({.pp = 1, .dp = 8}, 0) == std::vector{8, 1, 8});
  CHECK(span({.pp = 2, .dp = 8}, 1) == std::vector{8, 2, 4});
  CHECK(span({.pp = 8, .dp = 4}, 3) == std::vector{4, 4, 1});
  CHECK(span({.pp = 16, .dp = 4}, 9) == std::vector{4, 4, 1});
  // Ranks 2, 5 | 8, 11, 14: pipelines of three ranks do not divide a node.
  CHECK(span({.pp = 3, .dp = 5}, 2) == std::vector{5, 2, 3});
}

TEST_CASE("a ring of n ranks sends (n−1)/n of the bytes in n−1 rounds, an all-reduce twice") {
  const GroupSpan node{.ranks = 4, .nodes = 1, .per_node = 4};
  CHECK(seconds(Collective::reduce_scatter, 4000, node) == Approx(3 * 1 + 3000.0 / 100));
  CHECK(seconds(Collective::all_gather, 4000, node) == Approx(3 * 1 + 3000.0 / 100));
  CHECK(seconds(Collective::all_reduce, 4000, node) == Approx(2 * (3 * 1 + 3000.0 / 100)));
  CHECK(seconds(Collective::all_reduce, 4000, {}) == 0);
}

TEST_CASE("a ring over nodes is as fast as the adapters that its ranks of one node have") {
  // Two of the three rounds are inside a node.
  CHECK(seconds(Collective::reduce_scatter, 4000, {.ranks = 4, .nodes = 2, .per_node = 2}) ==
        Approx(2 * 1 + 1 * 10 + 3000.0 / (2 * 20)));
  // Eight ranks of a node share its four adapters.
  CHECK(seconds(Collective::all_gather, 1600, {.ranks = 16, .nodes = 2, .per_node = 8}) ==
        Approx(14 * 1 + 1 * 10 + 1500.0 / (4 * 20)));
  // A group with one rank on each node has one adapter, and no connection inside a node.
  CHECK(seconds(Collective::all_gather, 4000, {.ranks = 4, .nodes = 4, .per_node = 1}) ==
        Approx(3 * 10 + 3000.0 / 20));
}

TEST_CASE("an all-reduce over many nodes is a tree if it is small and a ring if it is large") {
  const GroupSpan group{.ranks = 64, .nodes = 64, .per_node = 1};
  CHECK(seconds(Collective::all_reduce, 180, group) == Approx(2 * 6 * 10 + 2 * 180 / (0.9 * 20)));
  CHECK(seconds(Collective::all_reduce, 1e6, group) == Approx(2 * 63 * 10 + 2 * 63.0 / 64 * 1e6 / 20));
}

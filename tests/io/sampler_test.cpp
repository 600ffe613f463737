#include "io/datasets/sampler.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <utility>
#include <vector>

#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"

namespace foretoken {
namespace {

std::vector<std::int64_t> order_of(const Permutation& permutation, std::int64_t size) {
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < size; ++i) order.push_back(permutation(i));
  return order;
}

TEST_CASE("a permutation is a bijection, whatever the size and key") {
  std::vector<std::int64_t> sizes{1000, 99'991};
  for (std::int64_t size = 1; size <= 70; ++size) sizes.push_back(size);
  for (int power = 7; power <= 16; ++power)
    for (int around : {-1, 0, 1}) sizes.push_back((std::int64_t{1} << power) + around);
  for (const std::int64_t size : sizes)
    for (const std::uint64_t key : {0ULL, 1ULL, ~0ULL}) {
      const Permutation permutation(size, key);
      std::vector<bool> seen(static_cast<std::size_t>(size));
      for (std::int64_t i = 0; i < size; ++i) {
        const std::int64_t image = permutation(i);
        CAPTURE(size, key, i, image);
        if (image < 0 || image >= size || seen[static_cast<std::size_t>(image)]) FAIL("not a bijection");
        seen[static_cast<std::size_t>(image)] = true;
      }
    }
}

TEST_CASE("a permutation of a very large range stays in range without a collision") {
  const std::int64_t size = (std::int64_t{1} << 62) + 12345;
  const Permutation permutation(size, 42);
  std::set<std::int64_t> images;
  for (std::int64_t i = 0; i < 1000; ++i) images.insert(permutation(size - 1 - i));
  REQUIRE(images.size() == 1000);
  REQUIRE(*images.begin() >= 0);
  REQUIRE(*images.rbegin() < size);
}

TEST_CASE("over many keys a permutation maps every index to every position about equally often") {
  constexpr std::int64_t size = 10;
  constexpr int keys = 20'000;
  std::vector<int> counts(size * size);
  for (std::uint64_t key = 0; key < keys; ++key) {
    const Permutation permutation(size, key);
    for (std::int64_t i = 0; i < size; ++i) ++counts[static_cast<std::size_t>(i * size + permutation(i))];
  }
  // If the permutations are uniform, each count is binomial with mean 2000 and standard deviation 42. A
  // deviation of six standard deviations among 100 counts is no chance.
  for (const int count : counts) REQUIRE(std::abs(count - keys / size) < 255);
}

TEST_CASE("the order of an epoch depends on seed and epoch, and on nothing else") {
  const RowShape row{8, 2};
  const Sampler sampler("text", 8 * 100 + 3, row, 1);
  REQUIRE(sampler.samples() == 100);
  std::set<std::vector<std::int64_t>> orders;
  for (const std::uint64_t seed : {1, 2})
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
      const Sampler one("text", 8 * 100 + 3, row, seed);
      std::vector<std::int64_t> order;
      for (std::int64_t i = 0; i < 100; ++i) order.push_back(one.shuffled_begin(epoch * 100 + i));
      orders.insert(order);
      std::sort(order.begin(), order.end());
      for (std::int64_t i = 0; i < 100; ++i) REQUIRE(order[static_cast<std::size_t>(i)] == 8 * i);
    }
  REQUIRE(orders.size() == 6);
  REQUIRE(sampler.shuffled_begin(217) == Sampler("other", 8 * 100 + 3, row, 1).shuffled_begin(217));
  REQUIRE(sampler.epoch_of(199) == 1);
}

TEST_CASE("the order of the data is the one that earlier runs used") {
  // The expected order comes from an independent implementation in Python.
  REQUIRE(order_of(Permutation(8, 1), 8) == std::vector<std::int64_t>{7, 6, 2, 5, 3, 4, 0, 1});
  REQUIRE(order_of(Permutation(11, 99), 11) == std::vector<std::int64_t>{0, 10, 8, 7, 3, 9, 2, 6, 5, 4, 1});
  const Sampler sampler("text", 8 * 100 + 3, {8, 2}, 1);
  const std::vector<std::pair<std::int64_t, std::int64_t>> begins{
      {0, 176}, {1, 208}, {99, 592}, {100, 240}, {217, 0}};
  for (const auto& [sample, begin] : begins) REQUIRE(sampler.shuffled_begin(sample) == begin);
}

TEST_CASE("rows are inside the text, look-ahead included, and there are as many as fit") {
  for (std::int64_t tokens = 5; tokens < 40; ++tokens)
    for (std::int64_t look_ahead = 0; look_ahead <= 3; ++look_ahead) {
      const RowShape row{4, look_ahead};
      if (tokens < row.tokens()) continue;
      const Sampler sampler("text", tokens, row, 0);
      const std::int64_t end = sampler.sequential_begin(sampler.samples() - 1) + row.tokens();
      CAPTURE(tokens, look_ahead);
      REQUIRE(end <= tokens);
      REQUIRE(end + row.positions > tokens);
    }
}

TEST_CASE("text shorter than a row is refused with both lengths") {
  expect_error<DataError>(
      "small.h5: text shorter than a row: 66 tokens, a row of 64 positions + 1 + 2 of look-ahead needs 67",
      [] {
        Sampler("small.h5", 66, {64, 2}, 0);
      });
  REQUIRE(Sampler("small.h5", 67, {64, 2}, 0).samples() == 1);
  REQUIRE_THROWS_AS(Sampler("empty", 0, RowShape{1, 0}, 0), DataError);
  REQUIRE_THROWS_AS(Sampler("a", 100, RowShape{0, 0}, 0), UsageError);
  REQUIRE_THROWS_AS(Sampler("a", 100, RowShape{8, -1}, 0), UsageError);
}

}  // namespace
}  // namespace foretoken

#include "io/datasets/batch.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <thread>

#include "io/hdf5/hdf5.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_files.h"

namespace foretoken {
namespace {

constexpr std::int64_t vocab = 60'000;  // more than the tokens of each dataset below, which are 0, 1, 2, …

struct Row {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> starts;
  friend bool operator==(const Row&, const Row&) = default;
};

Row row_of(const Batch& batch, std::int64_t row) {
  const auto tokens = batch.tokens.rows(row, 1).span<std::int32_t>();
  const auto starts = batch.document_start.rows(row, 1).span<std::int32_t>();
  return {{tokens.begin(), tokens.end()}, {starts.begin(), starts.end()}};
}

/// The rows of one step in global order, gathered from all data-parallel ranks.
std::vector<Row> step_rows(std::vector<std::unique_ptr<BatchLoader>>& ranks) {
  std::vector<std::span<const Batch>> steps;
  for (auto& rank : ranks) steps.push_back(rank->next());
  std::vector<Row> rows;
  for (std::size_t m = 0; m < steps[0].size(); ++m)
    for (const auto& step : steps)
      for (std::int64_t row = 0; row < step[m].tokens.shape[0]; ++row) rows.push_back(row_of(step[m], row));
  return rows;
}

std::vector<std::unique_ptr<BatchLoader>> loaders(const TokenDataset& dataset, const RowShape& row,
                                                  std::int64_t rows, std::int64_t microbatches,
                                                  std::int64_t dp, const TrainingOrder& order) {
  std::vector<std::unique_ptr<BatchLoader>> ranks;
  for (std::int64_t rank = 0; rank < dp; ++rank)
    ranks.push_back(
        std::make_unique<BatchLoader>(dataset, row, BatchLayout{rows, microbatches, dp, rank}, order));
  return ranks;
}

TEST_CASE("a row holds the tokens at its position and the start of each token's document") {
  const TemporaryFolder folder;
  write_counting_dataset(folder / "a.h5", std::vector<std::int64_t>{3, 1, 5, 20}, vocab);
  const TokenDataset dataset(folder / "a.h5");
  BatchLoader loader(dataset, {4, 1}, {.rows = 3});
  const Batch& batch = loader.next()[0];
  REQUIRE(batch.tokens.shape == Shape{3, 6});
  REQUIRE(batch.document_start.shape == Shape{3, 6});
  const std::int32_t end = vocab - 1;
  REQUIRE(row_of(batch, 0) == Row{{0, 1, end, end, 4, 5}, {0, 0, 0, 3, 4, 4}});
  REQUIRE(row_of(batch, 1) == Row{{4, 5, 6, 7, end, 9}, {0, 0, 0, 0, 0, 5}});
  REQUIRE(row_of(batch, 2) == Row{{end, 9, 10, 11, 12, 13}, {0, 1, 1, 1, 1, 1}});
}

TEST_CASE("every layout of a step has the same rows in the same order") {
  const TemporaryFolder folder;
  write_counting_dataset(folder / "a.h5", std::vector<std::int64_t>{500, 1500, 3}, vocab);
  const TokenDataset dataset(folder / "a.h5");
  const RowShape row{16, 2};
  std::vector<std::vector<Row>> expected;
  auto serial = loaders(dataset, row, 12, 1, 1, {.seed = 5});
  for (int step = 0; step < 25; ++step)
    expected.push_back(step_rows(serial));  // 125 samples: more than two epochs
  struct Layout {
    std::int64_t rows, microbatches, dp;
  };
  for (const Layout& layout : {Layout{1, 12, 1}, Layout{2, 3, 2}, Layout{3, 1, 4}, Layout{1, 1, 12}}) {
    auto ranks = loaders(dataset, row, layout.rows, layout.microbatches, layout.dp, {.seed = 5});
    for (const std::vector<Row>& rows : expected) {
      const bool same = step_rows(ranks) == rows;
      CAPTURE(layout.rows, layout.microbatches, layout.dp);
      REQUIRE(same);
    }
  }
}

TEST_CASE("a run that changes its layout at every resume sees every sample of an epoch once") {
  const TemporaryFolder folder;
  write_counting_dataset(folder / "a.h5", std::vector<std::int64_t>{16 * 90 + 3}, vocab);
  const TokenDataset dataset(folder / "a.h5");
  std::map<std::int32_t, int> times_seen;
  std::int64_t consumed = 0;
  struct Layout {
    std::int64_t rows, microbatches, dp, steps;
  };
  for (const Layout& layout : {Layout{2, 2, 2, 3}, Layout{1, 3, 1, 4}, Layout{2, 1, 3, 2}, Layout{3, 2, 3, 2},
                               Layout{1, 6, 1, 3}}) {  // 24 + 12 + 12 + 36 + 18 = 102 rows; an epoch has 90
    auto ranks = loaders(dataset, {16, 2}, layout.rows, layout.microbatches, layout.dp, {7, consumed});
    for (std::int64_t step = 0; step < layout.steps; ++step)
      for (const Row& row : step_rows(ranks)) ++times_seen[row.tokens[0]];
    for (const auto& rank : ranks) REQUIRE(rank->consumed_samples() == ranks[0]->consumed_samples());
    consumed = ranks[0]->consumed_samples();
  }
  REQUIRE(consumed == 102);
  REQUIRE(times_seen.size() == 90);
  REQUIRE(std::count_if(times_seen.begin(), times_seen.end(), [](const auto& s) { return s.second == 2; }) ==
          12);
}

TEST_CASE("a resumed loader continues with the rows that an uninterrupted one reads") {
  const TemporaryFolder folder;
  write_counting_dataset(folder / "a.h5", std::vector<std::int64_t>{40, 400}, vocab);
  const TokenDataset dataset(folder / "a.h5");
  const BatchLayout layout{.rows = 2, .microbatches = 2};
  BatchLoader straight(dataset, {8, 1}, layout, TrainingOrder{.seed = 3});
  for (int step = 0; step < 17; ++step) straight.next();
  BatchLoader resumed(dataset, {8, 1}, layout, TrainingOrder{3, straight.consumed_samples()});
  for (int step = 0; step < 5; ++step) {
    const auto a = straight.next();
    const auto b = resumed.next();
    for (std::size_t m = 0; m < 2; ++m)
      for (std::int64_t row = 0; row < 2; ++row) REQUIRE(row_of(a[m], row) == row_of(b[m], row));
  }
}

TEST_CASE("the current step's batch does not change while the next one is read") {
  const TemporaryFolder folder;
  write_counting_dataset(folder / "a.h5", std::vector<std::int64_t>{400}, vocab);
  const TokenDataset dataset(folder / "a.h5");
  BatchLoader loader(dataset, {4, 0}, {.rows = 2}, TrainingOrder{});
  for (int step = 0; step < 50; ++step) {
    const Batch& batch = loader.next()[0];
    const Row before = row_of(batch, 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(row_of(batch, 1) == before);
  }
}

TEST_CASE("an evaluation reads every row once, in order, and marks the rows past the end") {
  const TemporaryFolder folder;
  write_counting_dataset(folder / "a.h5", std::vector<std::int64_t>{4 * 10 + 2}, vocab);
  const TokenDataset dataset(folder / "a.h5");
  for (const std::int64_t dp : {1, 2, 3}) {
    std::vector<std::int32_t> firsts;
    std::int64_t valid = 0;
    std::vector<std::unique_ptr<BatchLoader>> ranks;
    for (std::int64_t rank = 0; rank < dp; ++rank)
      ranks.push_back(std::make_unique<BatchLoader>(dataset, RowShape{4, 1}, BatchLayout{2, 2, dp, rank}));
    const std::int64_t steps = (10 + 4 * dp - 1) / (4 * dp);
    for (std::int64_t step = 0; step < steps; ++step) {
      std::vector<std::span<const Batch>> parts;
      for (auto& rank : ranks) parts.push_back(rank->next());
      for (std::size_t m = 0; m < 2; ++m)
        for (const auto& part : parts) {
          REQUIRE(part.size() == 2);
          valid += part[m].valid_rows;
          for (std::int64_t row = 0; row < 2; ++row) {
            const Row content = row_of(part[m], row);
            if (row < part[m].valid_rows)
              firsts.push_back(content.tokens[0]);
            else
              REQUIRE(content == Row{std::vector<std::int32_t>(6, 0), std::vector<std::int32_t>(6, -1)});
          }
        }
    }
    REQUIRE(valid == 10);
    REQUIRE(firsts == std::vector<std::int32_t>{0, 4, 8, 12, 16, 20, 24, 28, 32, 36});
    for (auto& rank : ranks) {
      REQUIRE(rank->next().empty());
      REQUIRE(rank->next().empty());
      REQUIRE(rank->consumed_samples() == 10);
    }
  }
}

TEST_CASE("a token outside the vocabulary is an error at its step and at every later step") {
  const TemporaryFolder folder;
  std::vector<std::uint16_t> tokens(100, 1);
  tokens[50] = 999;
  std::vector<std::int64_t> offsets{0, 100};
  {
    Hdf5File file = Hdf5File::create(folder / "a.h5");
    file.write_attribute("format", std::string("foretoken token dataset"));
    file.write_attribute("format_version", std::int64_t{1});
    file.write_attribute("tokenizer_name", std::string("bytes"));
    file.write_attribute("tokenizer_digest", std::string("d"));
    file.write_attribute("vocab_size", std::int64_t{257});
    file.write_attribute("end_of_document", std::int64_t{256});
    file.create_dataset("/tokens", DType::u16, {100}).write(tensor_over(std::span(tokens), {100}));
    file.create_dataset("/document_offsets", DType::i64, {2}).write(tensor_over(std::span(offsets), {2}));
    file.close();
  }
  const TokenDataset dataset(folder / "a.h5");
  BatchLoader loader(dataset, {10, 0}, {});
  for (int step = 0; step < 4; ++step) REQUIRE(loader.next().size() == 1);
  for (int again = 0; again < 2; ++again) expect_error<DataError>("token 50 is 999", [&] { loader.next(); });
  REQUIRE(loader.consumed_samples() == 4);
}

TEST_CASE("impossible layouts and rows are refused") {
  const TemporaryFolder folder;
  write_counting_dataset(folder / "a.h5", std::vector<std::int64_t>{100}, vocab);
  const TokenDataset dataset(folder / "a.h5");
  const RowShape row{8, 1};
  const std::int64_t huge = std::int64_t{1} << 62;
  for (const BatchLayout& layout :
       {BatchLayout{0, 1, 1, 0}, BatchLayout{1, 0, 1, 0}, BatchLayout{1, 1, 0, 0}, BatchLayout{1, 1, 2, 2},
        BatchLayout{1, 1, 2, -1}, BatchLayout{huge, 4, 1, 0}, BatchLayout{1, huge, 1, 0},
        BatchLayout{1, 1, huge, 0}})
    REQUIRE_THROWS_AS(BatchLoader(dataset, row, layout), UsageError);
  REQUIRE_THROWS_AS(BatchLoader(dataset, row, BatchLayout{}, TrainingOrder{0, -1}), UsageError);
  expect_error<DataError>("a.h5: text shorter than a row: 100 tokens", [&] {
    BatchLoader(dataset, {100, 0}, BatchLayout{});
  });
}

}  // namespace
}  // namespace foretoken

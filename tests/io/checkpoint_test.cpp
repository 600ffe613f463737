#include <atomic>
#include <cstring>
#include <fstream>
#include <regex>
#include <thread>
#include <utility>

#include "io/checkpoint/checkpoint_directory.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/checkpoint_writer.h"
#include "io/checkpoint/lineage.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> names(const std::vector<fs::path>& paths) {
  std::vector<std::string> list;
  for (const fs::path& path : paths) list.push_back(path.filename().string());
  return list;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a checkpoint in any division into pieces reads back exactly, whole and in any other division") {
  const TemporaryFolder folder;
  using Cutter = std::vector<RankPieces> (*)(int, std::uint64_t);
  const std::vector<std::pair<Cutter, int>> layouts = {
      {cut_by_tensor, 1}, {cut_by_tensor, 4}, {cut_evenly, 2}, {cut_evenly, 3}, {cut_raggedly, 3}};
  std::int64_t step = 0;
  for (const auto& [written, ranks] : layouts) {
    save_checkpoint(folder / "c", ++step, written(ranks, 7));
    const Checkpoint checkpoint = Checkpoint::open(folder / "c" / checkpoint_name(step));
    CHECK(checkpoint.info().config == test_info(step, ranks).config);
    CHECK(checkpoint.info().conventions == test_info(step, ranks).conventions);
    CHECK(checkpoint.info().seed == test_info(step, ranks).seed);
    CHECK(checkpoint.info().grid == test_info(step, ranks).grid);
    CHECK(checkpoint.info().created.size() == std::string("2025-01-31T12:00:00Z").size());
    CHECK(difference(checkpoint, 7) == "");
    CHECK(difference(checkpoint, 8) != "");
    CHECK(checkpoint.verify().empty());
    for (const auto& [read, readers] : layouts)
      for (const RankPieces& rank : read(readers, 7))
        for (const CheckpointPiece& piece : rank.pieces) {
          std::vector<std::byte> bytes(piece.data.bytes(), std::byte{0xff});
          checkpoint.read(piece.kind, piece.tensor, piece.range,
                          {bytes.data(), piece.data.dtype, DeviceKind::cpu, piece.data.shape});
          REQUIRE(std::memcmp(bytes.data(), piece.data.data, bytes.size()) == 0);
        }
  }
}

TEST_CASE("a save stores the values at the time of its call, and staging memory is reused") {
  const TemporaryFolder folder;
  std::vector<RankPieces> cut = cut_evenly(1, 1);
  CheckpointWriter writer(folder / "c", 0, 1);
  for (std::int64_t step = 1; step <= 3; ++step) {
    writer.save(test_info(step, 1), cut[0].pieces, {});
    for (std::vector<std::byte>& bytes : cut[0].memory)
      std::fill(bytes.begin(), bytes.end(), std::byte{0xc5});
    writer.finish();
    CHECK(difference(Checkpoint::open(folder / "c" / checkpoint_name(step)),
                     static_cast<std::uint64_t>(step)) == "");
    cut = cut_raggedly(1, static_cast<std::uint64_t>(step) + 1);
  }
}

TEST_CASE("a complete checkpoint has shards, view and manifest, and no temporary file of the save") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 1000, cut_evenly(2, 1));
  Names files = names({fs::directory_iterator(folder / "c" / "step_00001000"), fs::directory_iterator()});
  std::sort(files.begin(), files.end());
  CHECK(files == Names{"manifest.json", "model.h5", "shard_00000.h5", "shard_00001.h5"});
  CHECK(names({fs::directory_iterator(folder / "c"), fs::directory_iterator()}) == Names{"step_00001000"});
}

TEST_CASE("a rank without pieces or with only empty ones writes no shard") {
  const TemporaryFolder folder;
  std::vector<RankPieces> cut = cut_by_tensor(1, 3);
  cut.resize(3);
  cut[1].add(test_tensors()[0], {5, 5}, 3);
  save_checkpoint(folder / "c", 1, cut);
  CHECK_FALSE(fs::exists(folder / "c/step_00000001/shard_00001.h5"));
  CHECK(difference(Checkpoint::open(folder / "c/step_00000001"), 3) == "");
}

TEST_CASE("the newest checkpoints are kept and older ones removed") {
  const TemporaryFolder folder;
  CheckpointWriterOptions options;
  options.keep = 2;
  for (std::int64_t step : {10, 20, 30, 40}) save_checkpoint(folder / "c", step, cut_evenly(2, 1), options);
  CHECK(names(list_checkpoints(folder / "c")) == Names{"step_00000040", "step_00000030"});
  options.keep = 1;
  save_checkpoint(folder / "c", 25, cut_evenly(2, 1), options);  // the run went back
  CHECK(names(list_checkpoints(folder / "c")) == Names{"step_00000040", "step_00000030", "step_00000025"});
  options.keep = 0;
  expect_error<UsageError>("keep is 0", [&] { CheckpointWriter(folder / "c", 0, 1, options); });
}

TEST_CASE("a step that is saved again is replaced") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 10, cut_evenly(2, 1));
  save_checkpoint(folder / "c", 10, cut_evenly(3, 2));
  CHECK(names({fs::directory_iterator(folder / "c"), fs::directory_iterator()}) == Names{"step_00000010"});
  const Checkpoint checkpoint = Checkpoint::open(folder / "c/step_00000010");
  CHECK(checkpoint.info().grid.pp == 3);
  CHECK(difference(checkpoint, 2) == "");
}

TEST_CASE("a replacement interrupted between its two renames leaves the older checkpoint listed") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 10, cut_evenly(1, 1));
  fs::rename(folder / "c/step_00000010", folder / "c/step_00000010.replaced");
  CHECK(names(list_checkpoints(folder / "c")) == Names{"step_00000010.replaced"});
  CHECK(difference(Checkpoint::open(checkpoints_at(folder.path() / "c").front()), 1) == "");
  save_checkpoint(folder / "c", 10, cut_evenly(1, 2));
  CHECK(names(list_checkpoints(folder / "c")) == Names{"step_00000010"});
  CHECK_FALSE(fs::exists(folder / "c/step_00000010.replaced"));
}

TEST_CASE("checkpoints are listed newest first by step, and only complete ones") {
  const TemporaryFolder folder;
  for (const char* name : {"step_00000900", "step_00001000", "step_123456789", "step_00002000.tmp", "step_9",
                           "step_-0000001", "step_00000003.bak", "other", "step_"})
    fs::create_directories(folder / "checkpoints" / name);
  folder.write("checkpoints/step_00005000", "a file");
  const Names expected = {"step_123456789", "step_00001000", "step_00000900"};
  CHECK(names(list_checkpoints(folder / "checkpoints")) == expected);
  CHECK(names(checkpoints_at(folder.path())) == expected);
  CHECK(names(checkpoints_at(folder / "checkpoints/")) == expected);
  CHECK(names(checkpoints_at(folder / "checkpoints/step_00000900/")) == Names{"step_00000900"});
}

TEST_CASE("a path without a checkpoint is an error, never an empty list") {
  const TemporaryFolder folder;
  folder.write("file", "x");
  fs::create_directories(folder / "run/checkpoints");
  fs::create_directories(folder / "step_00000001.tmp");
  expect_error<DataError>("no such directory", [&] { list_checkpoints(folder / "nowhere"); });
  expect_error<DataError>("not a directory", [&] { list_checkpoints(folder / "file"); });
  expect_error<DataError>("no such path", [&] { checkpoints_at(folder / "nowhere"); });
  expect_error<DataError>("no complete checkpoint", [&] { checkpoints_at(folder / "run"); });
  expect_error<DataError>("never completed", [&] { checkpoints_at(folder / "step_00000001.tmp"); });
  expect_error<DataError>("no such directory", [&] { Checkpoint::open(folder / "nowhere"); });
  expect_error<DataError>("not a directory", [&] { Checkpoint::open(folder / "file"); });
  expect_error<DataError>("has no manifest.json", [&] { Checkpoint::open(folder / "run"); });
  expect_error<DataError>("never completed", [&] { Checkpoint::open(folder / "step_00000001.tmp/"); });
}

TEST_CASE("a hole or an overlap in the pieces is named and nothing is published") {
  const TemporaryFolder folder;
  std::vector<RankPieces> hole = cut_evenly(2, 1);
  hole[1].pieces.erase(hole[1].pieces.begin() + 4);
  expect_error<DefectError>("step_00000005: model.norm.weight: elements [6, 13) are in no piece",
                            [&] { save_checkpoint(folder / "c", 5, hole); });
  std::vector<RankPieces> overlap = cut_evenly(2, 1);
  overlap[1].add({"exp_avg", "model.norm.weight", {13}}, {3, 5}, 1);
  expect_error<DefectError>("exp_avg of model.norm.weight: elements [3, 5) are in two pieces",
                            [&] { save_checkpoint(folder / "c", 5, overlap); });
  CHECK(fs::is_empty(folder / "c"));
}

TEST_CASE("inconsistent pieces are refused before anything is written") {
  const TemporaryFolder folder;
  std::vector<float> memory(24);
  const Tensor data = tensor_over(std::span<float>(memory), {24});
  const auto expect_refused = [&](const CheckpointPiece& piece, const std::string& fragment) {
    CheckpointWriter writer(folder / "c", 0, 1);
    expect_error<DefectError>(fragment, [&] { writer.save(test_info(1, 1), std::span(&piece, 1), {}); });
    CHECK_FALSE(fs::exists(folder / "c"));
  };
  expect_refused({"model", "a", {4, 6}, {0, 25}, data}, "[0, 25) are out of range for shape [4, 6]");
  expect_refused({"model", "a", {4, 6}, {-1, 23}, data}, "[-1, 23)");
  expect_refused({"model", "a", {4, 6}, {0, 23}, data}, "need 23 elements");
  expect_refused({"model", "a", {4, 6}, {0, 24}, {}}, "need 24 elements");
  expect_refused({"model", "a", {0, 6}, {0, 0}, data}, "cannot be saved");
  expect_refused({"model", "", {4, 6}, {0, 24}, data}, "a name must not be empty");
  expect_refused({"model", "a/b", {4, 6}, {0, 24}, data}, "'a/b'");
  expect_refused({"..", "a%b", {4, 6}, {0, 24}, data}, "'a%b'");
  const std::vector<CheckpointPiece> twice(2, {"model", "a", {4, 6}, {0, 24}, data});
  CheckpointWriter writer(folder / "c", 0, 1);
  expect_error<DefectError>("a: rank 0 saves", [&] { writer.save(test_info(1, 1), twice, {}); });
}

TEST_CASE("reading checks name, range, dtype and size") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 1, cut_evenly(2, 1));
  const Checkpoint checkpoint = Checkpoint::open(folder / "c/step_00000001");
  std::vector<float> memory(14);
  const Tensor out = tensor_over(std::span<float>(memory), {14});
  CHECK(checkpoint.has("model", "model.norm.weight"));
  CHECK_FALSE(checkpoint.has("model", "model.norm"));
  const std::string norm = "model.norm.weight";
  expect_error<DataError>("has no exp_avg of lm_head.weight", [&] {
    checkpoint.read("exp_avg", "lm_head.weight", {0, 14}, out);
  });
  expect_error<DataError>("[0, 14) are out of range for shape [13]", [&] {
    checkpoint.read("model", norm, {0, 14}, out);
  });
  expect_error<DataError>("[-1, 13)", [&] { checkpoint.read("model", norm, {-1, 13}, out); });
  expect_error<DefectError>("13 elements", [&] { checkpoint.read("model", norm, {0, 13}, out); });
  std::vector<double> wide(13);
  expect_error<DataError>("has dtype f32, expected f64", [&] {
    checkpoint.read("model", norm, {0, 13}, tensor_over(std::span<double>(wide), {13}));
  });
}

TEST_CASE("f32 is read as bf16, rounded to nearest, and bf16 as f32, in any range") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 1, cut_raggedly(2, 5));
  const Checkpoint checkpoint = Checkpoint::open(folder / "c/step_00000001");
  const TestTensor values{"model", "model.embed_tokens.weight", {257, 12}};
  const TestTensor moments{"exp_avg_sq", values.name, values.shape};
  for (const Range& range : {Range{0, 3084}, Range{701, 2999}, Range{13, 14}}) {
    std::vector<BFloat16> narrow(static_cast<std::size_t>(range.size()));
    std::vector<float> wide(narrow.size());
    checkpoint.read(values.kind, values.name, range, tensor_over(std::span(narrow), {range.size()}));
    checkpoint.read(moments.kind, moments.name, range, tensor_over(std::span(wide), {range.size()}));
    for (std::size_t i = 0; i < narrow.size(); ++i) {
      const std::int64_t element = range.begin + static_cast<std::int64_t>(i);
      REQUIRE(narrow[i].bits == BFloat16(test_value(values, element, 5)).bits);
      REQUIRE(wide[i] == test_value(moments, element, 5));
    }
  }
}

TEST_CASE("a save that is committed is one line with its size and the time that training waited for it") {
  const TemporaryFolder folder;
  std::vector<std::string> lines;
  CheckpointWriterOptions options;
  options.log = [&](const std::string& line) { lines.push_back(line); };
  save_checkpoint(folder / "c", 400, cut_evenly(1, 1), options);
  REQUIRE(lines.size() == 1);
  CHECK_THAT(lines[0], testing::contains("checkpoint step_00000400: 31.57 kB in ") &&
                           testing::contains(" s, training waited ") && !testing::contains("previous"));
}

TEST_CASE("the time that training waited for a save includes the wait for an earlier one") {
  const TemporaryFolder folder;
  std::vector<std::string> lines;
  std::atomic<bool> second_starts = false;
  bool delayed = false;  // used on the writer's thread
  CheckpointWriterOptions options;
  options.log = [&](const std::string& line) { lines.push_back(line); };
  options.on_phase = [&](SavePhase phase) {
    if (phase != SavePhase::shard_half_written || std::exchange(delayed, true)) return;
    while (!second_starts) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  };
  const std::vector<RankPieces> cut = cut_evenly(1, 1);
  CheckpointWriter writer(folder / "c", 0, 1, options);
  writer.save(test_info(1, 1), cut[0].pieces, {});
  second_starts = true;
  writer.save(test_info(2, 1), cut[0].pieces, {});
  writer.finish();
  REQUIRE(lines.size() == 2);
  const std::regex waits(
      "checkpoint step_00000002: .*, training waited (.*) s, (.*) s of it for the previous save");
  std::smatch seconds;
  REQUIRE(std::regex_match(lines[1], seconds, waits));
  CHECK(std::stod(seconds[1]) >= 0.1);
  CHECK(std::stod(seconds[2]) >= 0.1);
}

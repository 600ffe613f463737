#include "launch/commands/inspect.h"

#include <array>
#include <atomic>
#include <sstream>
#include <thread>

#include "io/checkpoint/run_directory.h"
#include "io/datasets/token_dataset.h"
#include "io/datasets/token_dataset_index.h"
#include "io/files/file_reader.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/expect_error.h"
#include "tests/support/fault_injection.h"
#include "tests/support/source_tree.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_files.h"

using namespace foretoken;

namespace {

std::string inspected(const std::filesystem::path& path, bool verify, int expected_code) {
  std::ostringstream out;
  CHECK(inspect(path.string(), verify, out) == expected_code);
  return out.str();
}

bool has(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("inspect describes a checkpoint and its tensors, and for a run the newest checkpoint") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "run/checkpoints", 100, cut_evenly(1, 1));
  save_checkpoint(folder / "run/checkpoints", 200, cut_evenly(2, 2));
  const std::string text = inspected(folder / "run", false, 0);
  has(text, "step         200\n");
  has(text, "tokens       819200\n");
  has(text, "samples      1600\n");
  has(text, "layout       pp 2 × dp 1 × v 1\n");
  has(text, "convention   concat = embedding_first\n");
  has(text,
      "tokenizer    bytes (digest 7616142adcc6254c5795ed877f813edd, vocabulary 257, end of document 256)\n");
  has(text, "dtypes       exp_avg bf16, exp_avg_sq bf16, model f32\n");
  has(text, "\nmodel.embed_tokens.weight          [257, 12]  f32         2        2  0 1\n");
  has(text, "\n5 tensors, 3946 parameters\n");
  CHECK(text.find("digests") == std::string::npos);
  CHECK(inspected(folder / "run/checkpoints/step_00000200", false, 0) == text);
  has(inspected(folder / "run/checkpoints/step_00000100", false, 0), "step         100\n");
}

TEST_CASE("inspect lists layer 10 after layer 9") {
  const TemporaryFolder folder;
  std::vector<RankPieces> cut(1);
  for (const char* layer : {"10", "9", "0", "11"})
    cut[0].add({"model", std::string("model.layers.") + layer + ".w", {2}}, {0, 2}, 1);
  save_checkpoint(folder / "c", 1, cut);
  const std::string text = inspected(folder / "c", false, 0);
  CHECK(text.find("layers.0.w") < text.find("layers.9.w"));
  CHECK(text.find("layers.9.w") < text.find("layers.10.w"));
  CHECK(text.find("layers.10.w") < text.find("layers.11.w"));
}

TEST_CASE("no line of inspect's tensor table is wider than 100 columns, and every name is complete") {
  const TemporaryFolder folder;
  std::vector<RankPieces> cut(6);
  const std::string common = "model.layers.1234.post_attention_layernorm.weight";
  const std::string longest = "model.layers.1234." + std::string(70, 'x') + ".weight";
  for (std::size_t rank = 0; rank < cut.size(); ++rank) {
    const std::int64_t begin = static_cast<std::int64_t>(rank) * 100;
    for (const std::string& name : {common, longest})
      cut[rank].add({"model", name, {600, 1000}}, {begin * 1000, (begin + 100) * 1000}, 1);
  }
  save_checkpoint(folder / "c", 1, cut);
  const std::string text = inspected(folder / "c", false, 0);
  has(text, "\n" + common + "  [600, 1000]  f32");
  has(text, "\n" + longest + "\n ");
  has(text, "        6        0  6 shards\n");
  std::istringstream table(text.substr(text.find("\ntensor ")));
  for (std::string line; std::getline(table, line);) CHECK(line.size() <= 100);
}

TEST_CASE("inspect --verify reports that all digests match, or those that do not, with exit code 3") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 400, cut_evenly(2, 1));
  has(inspected(folder / "c", true, 0), "all 33 digests match\n");  // 30 pieces, 3 files
  const Checkpoint checkpoint = Checkpoint::open(folder / "c/step_00000400");
  for (const PieceRecord& piece : checkpoint.pieces("exp_avg", "model.norm.weight"))
    flip_byte(checkpoint.directory() / piece.file, piece.address);
  const std::string text = inspected(folder / "c", true, 3);
  has(text, "damaged: step_00000400/shard_00000.h5: exp_avg of model.norm.weight: digest differs");
  has(text, "damaged: step_00000400/shard_00001.h5: exp_avg of model.norm.weight: digest differs");
  CHECK(text.find("digests match") == std::string::npos);
}

TEST_CASE("inspect describes a dataset, and with --verify names its damaged parts") {
  const TemporaryFolder folder;
  const auto path = folder / "a.h5";
  write_counting_dataset(path, std::vector<std::int64_t>{40'000, 10, 20'000}, 257);
  const std::string text = inspected(path, true, 0);
  has(text, "format       version 2\n");
  has(text, "identity     " + TokenDataset(path).identity() + "\n");
  has(text, "tokenizer    counting (digest 0, vocabulary 257, end of document 256)\n");
  has(text, "tokens       60010\n");
  has(text, "documents    3, of 10 to 40000 tokens, 20003 on average\n");
  has(text, "every byte is unchanged\n");
  flip_byte(path, read_index(FileReader(path))->index.tokens.address + 100'000);
  inspected(path, false, 0);  // without --verify the tokens are not read
  const std::string damaged = inspected(path, true, 3);
  has(damaged, "damaged: " + path.string() + ": /tokens: chunk 1 (tokens 32768 to 60009): digest differs");
  CHECK(damaged.find("as it was written") == std::string::npos);
  has(inspected(foretoken::testing::in_source_tree("tests/golden/token_dataset.h5"), true, 0),
      "version 1, without digests\n");
  std::ostringstream out;
  expect_error<DataError>("text.h5", [&] { inspect(folder.write("text.h5", "no").string(), false, out); });
}

TEST_CASE("inspect --verify names damage to config.toml and metrics.jsonl of a run") {
  const TemporaryFolder folder;
  const RunDirectory run = RunDirectory::create_at((folder / "run").string(), "[model]\nhidden_size = 12\n");
  save_checkpoint(run.checkpoints_path(), 100, cut_evenly(1, 1));
  folder.write("run/metrics.jsonl",
               R"({"kind":"step","step":1,"main_loss":1,"tokens_seen":1,"milliseconds":1,)"
               R"("tokens_per_second":1})"
               "\n");
  inspected(run.path(), true, 0);
  flip_byte(run.config_path(), 80);
  flip_byte(run.metrics_path(), 3);
  folder.write("run/metrics.jsonl.superseded", "{\"kind\":\"end\",\"step\":1,\"peak_memory_bytes\":1}\n{");
  folder.write("run/checkpoints/branch.json", "{}");
  const std::string text = inspected(run.path(), true, 3);
  has(text, "damaged: " + run.config_path() + ": digest differs (first line ");
  has(text, "damaged: 1 line cannot be read; the first: " + run.metrics_path() + ":1: ");
  has(text, "damaged: " + run.metrics_path() + ".superseded: ends inside a line\n");
  has(text, "damaged: " + run.checkpoints_path() + "/branch.json: ");
  inspected(run.path() + "/checkpoints/step_00000100", true, 3);
}

TEST_CASE(
    "inspect --verify checks all checkpoints of a run, also abandoned ones, and names the damaged ones") {
  const TemporaryFolder folder;
  const RunDirectory run = RunDirectory::create_at((folder / "run").string(), "");
  const std::filesystem::path checkpoints = run.checkpoints_path();
  for (const std::int64_t step : {100, 200, 300}) save_checkpoint(checkpoints, step, cut_evenly(1, 1));
  const std::string intact = inspected(run.path(), true, 0);
  for (const char* name : {"step_00000100", "step_00000200", "step_00000300"})
    has(intact, std::string("\n") + name + ": all 17 digests match\n");
  has(inspected(checkpoints / "step_00000100", true, 0), "\nall 17 digests match\n");

  std::filesystem::create_directories(checkpoints / "abandoned/branch_1");
  std::filesystem::rename(checkpoints / "step_00000200", checkpoints / "abandoned/branch_1/step_00000200");
  flip_byte(checkpoints / "abandoned/branch_1/step_00000200/model.h5", 40);
  folder.write("run/checkpoints/step_00000300/manifest.json", "torn");
  const std::string text = inspected(run.path(), true, 3);
  has(text, "damaged: abandoned/branch_1/step_00000200/model.h5: ");
  has(text, "damaged: " + (checkpoints / "step_00000300/manifest.json").string() + ": ");
  has(text, "\nstep_00000100: all 17 digests match\n");
  expect_error<DataError>("step_00000300", [&] {
    std::ostringstream out;
    inspect(run.path(), false, out);
  });
}

TEST_CASE("inspect --verify never ends with 0 unchecked while a training job retires the checkpoints") {
  namespace fs = std::filesystem;
  const TemporaryFolder folder;
  const fs::path run = folder / "run/checkpoints", away = folder / "away";
  const std::array<std::string, 2> names{"step_00000001", "step_00000002"};
  save_checkpoint(run, 1, cut_evenly(1, 1));
  save_checkpoint(away, 2, cut_evenly(1, 1));
  std::atomic<bool> ended{false};
  std::thread job([&] {
    for (std::size_t next = 1; !ended; next = 1 - next) {
      fs::rename(away / names[next], run / names[next]);
      fs::rename(run / names[1 - next], away / names[1 - next]);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  int unchecked = 0;
  for (int i = 0; i < 100; ++i) {
    std::ostringstream out;
    const int code = inspect(run.string(), true, out);
    unchecked += code == 0 && out.str().find("digests match") == std::string::npos;
  }
  ended = true;
  job.join();
  CHECK(unchecked == 0);
}

TEST_CASE("inspect of a path without a checkpoint is a data error") {
  const TemporaryFolder folder;
  std::ostringstream out;
  expect_error<DataError>("no such path", [&] { inspect((folder / "nowhere").string(), false, out); });
  expect_error<DataError>("no complete checkpoint", [&] { inspect(folder.path().string(), false, out); });
}

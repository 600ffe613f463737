// Runs whose dataset is another one than before, is damaged, or changes while the run reads it.

#include <fstream>

#include <fmt/format.h>

#include "io/checkpoint/checkpoint_directory.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "io/datasets/token_dataset.h"
#include "io/datasets/token_dataset_writer.h"
#include "io/tokenizers/tokenizer.h"
#include "tests/support/catch.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// Writes a dataset of byte tokens, 32768 in each chunk of 64 KiB.
void write_dataset(const std::filesystem::path& path, std::int64_t tokens, int salt) {
  TokenDatasetWriter writer(path, make_tokenizer("bytes")->identity());
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 1; i < tokens; ++i) ids.push_back(static_cast<std::int32_t>((i * i + salt) % 97));
  writer.append(ids);
  writer.end_document();
  writer.finish();
  writer.publish();
}

bool has_checkpoint(const std::string& run) {
  return std::filesystem::exists(run + "/checkpoints") && !list_checkpoints(run + "/checkpoints").empty();
}

}  // namespace

TEST_CASE("a run resumes with the data that it was trained on, and with other data only on request") {
  const TemporaryFolder folder;
  const std::string config = small_training(folder), path = (folder / "run").string();
  write_dataset(folder / "validation.h5", 5000, 1);
  const std::string validation = " --set data.validation_path=" + (folder / "validation.h5").string();
  REQUIRE(run(program() + " " + config + validation + " --set train.steps=2 --run-directory " + path).code ==
          0);
  const CheckpointInfo info = Checkpoint::open(checkpoints_at(path).front()).info();
  REQUIRE(info.training_data);
  REQUIRE(info.validation_data);
  const TokenDataset training(folder / "data.h5");
  CHECK(*info.training_data == training.record());

  const std::string resume = program() + " train --resume " + path;
  write_dataset(folder / "other.h5", 5000, 2);
  const std::string other = " --set data.path=" + (folder / "other.h5").string();
  const Outcome refused = run(resume + " --set train.steps=4" + other);
  CHECK(refused.code == 3);
  for (const std::string& part :
       {training.path().string(), training.identity(), (folder / "other.h5").string(),
        TokenDataset(folder / "other.h5").identity(), std::string("--allow-other-data")})
    CHECK_THAT(refused.output, contains(part));
  CHECK(run(resume + " --set train.steps=4 --set data.validation_path=" + (folder / "other.h5").string())
            .code == 3);
  CHECK(Checkpoint::open(checkpoints_at(path).front()).info().step == 2);

  // A copy at another path is the same data.
  std::filesystem::rename(folder / "data.h5", folder / "moved.h5");
  const std::string moved = " --set data.path=" + (folder / "moved.h5").string();
  const Outcome same = run(resume + " --set train.steps=4" + moved);
  CHECK(same.code == 0);
  CHECK(same.output.find("identity") == std::string::npos);
  const Outcome allowed = run(resume + " --set train.steps=6 --allow-other-data" + other);
  CHECK(allowed.code == 0);
  CHECK_THAT(allowed.output,
             contains("warning: data: the checkpoint's training data is " + (folder / "moved.h5").string()));
  CHECK(*Checkpoint::open(checkpoints_at(path).front()).info().training_data ==
        TokenDataset(folder / "other.h5").record());
  CHECK(run(program() + " train " + (folder / "train.toml").string() + " --allow-other-data").code == 2);
}

TEST_CASE(
    "a dataset that is truncated or overwritten during a run ends it with code 3 and keeps its checkpoints") {
  for (const bool cut : {false, true}) {
    const TemporaryFolder folder;
    const std::string config = small_training(folder), path = (folder / "run").string();
    write_dataset(folder / "large.h5", 1'000'000, 0);  // 31 chunks
    Process training(
        program_on(2) + " " + config + " --set data.path=" + (folder / "large.h5").string() +
        " --set parallel.dp=2 --set train.steps=100000 --set checkpoint.every=2 --run-directory " + path);
    REQUIRE(wait_until([&] { return has_checkpoint(path) || !training.running(); }));
    if (cut) {
      std::filesystem::resize_file(folder / "large.h5", 1 << 20);
    } else {
      std::fstream file(folder / "large.h5", std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(1 << 20);
      file << std::string(2'000'000, '\0');  // zeros are valid tokens
    }
    const Outcome outcome = training.wait();
    INFO(outcome.output);
    CHECK(outcome.code == 3);
    CHECK_THAT(outcome.output,
               contains("large.h5: /tokens: chunk ") && contains(cut ? "truncated" : "digest differs"));
    const Outcome verified = run(program() + " inspect --verify " + path);
    CHECK(verified.code == 0);
    // No step used damaged data: every written loss is that of undamaged rows.
    std::ifstream metrics(path + "/metrics.jsonl");
    for (std::string line; std::getline(metrics, line);)
      CHECK(line.find("\"loss\":0.0") == std::string::npos);
  }
}

TEST_CASE(
    "a config.toml with a flipped digit is named, and the run continues with its checkpoint's settings") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  REQUIRE(
      run(program() + " " + small_training(folder) + " --set train.steps=2 --run-directory " + path).code ==
      0);
  std::ifstream file(path + "/config.toml");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::string written = text;
  const std::size_t at = text.find("global_batch = 8");
  REQUIRE(at != std::string::npos);
  text[at + 15] = '9';
  folder.write("run/config.toml", text);
  const Outcome inspected = run(program() + " inspect --verify " + path);
  CHECK(inspected.code == 3);
  CHECK_THAT(inspected.output, contains("config.toml: digest differs"));
  const Outcome resumed = run(program() + " train --resume " + path);
  CHECK(resumed.code == 0);
  CHECK_THAT(resumed.output, contains("config.toml: digest differs") && contains("damaged or edited") &&
                                 contains("is restored from"));
  std::ifstream restored(path + "/config.toml");
  CHECK(std::string{std::istreambuf_iterator<char>(restored), {}} == written);
}

TEST_CASE("a study does not mix points that were trained on different data") {
  const TemporaryFolder folder;
  small_training(folder);
  const std::string study =
      program() + " study " +
      folder
          .write("sweep.toml", fmt::format("[study]\nbase = \"train.toml\"\n"
                                           "directory = \"{}\"\nlauncher = \"env RANKS={{ranks}}\"\n"
                                           "[train]\nsteps = 2\n[axes]\nmtp.depths = [0, 1]\n",
                                           (folder / "study").string()))
          .string();
  REQUIRE(run(study).code == 0);
  REQUIRE(run(study).code == 0);
  const std::string before = TokenDataset(folder / "data.h5").identity();
  write_dataset(folder / "data.h5", 5000, 3);
  const Outcome refused = run(study);
  INFO(refused.output);
  CHECK(refused.code == 2);
  CHECK_THAT(refused.output, contains("was trained on the training data") && contains(before) &&
                                 contains(TokenDataset(folder / "data.h5").identity()));
  REQUIRE(
      run(fmt::format("sed -i s/steps/stepz/ {}/study/depths=0/config.toml", folder.path().string())).code ==
      0);
  const Outcome damaged = run(study);
  CHECK(damaged.code == 3);
  CHECK_THAT(damaged.output, contains("depths=0/config.toml: digest differs"));
}

TEST_CASE("a path that is not UTF-8 is refused if the run would store it, and works elsewhere") {
  const TemporaryFolder folder;
  const std::string config = small_training(folder);
  const std::string bad = (folder / "r").string() + "$'\\xff'";  // in bash syntax
  const std::string train = program() + " " + config + " --set train.steps=2";
  for (const std::string& flag : {" --set data.path=" + bad, " --set data.validation_path=" + bad,
                                  " --set run.directory=" + bad, std::string(" --set run.name=$'\\xff'")}) {
    const Outcome outcome = run(train + flag);
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.output, contains("not UTF-8"));
  }
  REQUIRE(run(train + " --run-directory " + bad).code == 0);
  const Outcome from =
      run(program() + " train --from " + bad + " --run-directory " + (folder / "next").string());
  CHECK(from.code == 2);
  CHECK_THAT(from.output, contains("train.init_from: byte ") && contains("not UTF-8"));
  CHECK(!std::filesystem::exists(folder / "next"));
  CHECK(run(program() + " train --resume " + bad + " --set train.steps=4").code == 0);
  CHECK(run(program() + " inspect --verify " + bad).code == 0);
  CHECK(run(program() + " evaluate " + bad + " --rows 4 --data " + (folder / "data.h5").string()).code == 0);
}

TEST_CASE("tokenize reports a full disk and leaves no file") {
  const TemporaryFolder folder;
  folder.write("text/a.txt", std::string(3'000'000, 'x'));
  // No file may exceed 2 MB: writes fail as on a full disk.
  const Outcome outcome = run(fmt::format("bash -c 'ulimit -f 2000; exec {} tokenize {} -o {}'", program(),
                                          (folder / "text").string(), (folder / "out/data.h5").string()));
  INFO(outcome.output);
  CHECK(outcome.code == 3);
  CHECK_THAT(outcome.output, contains("data.h5") && contains("no space"));
  CHECK(files_in(folder / "out") == 0);
}

// Bad input ends with its exit code and one clear line; no data is lost.

#include <algorithm>

#include <fmt/format.h>

#include "io/datasets/token_dataset_writer.h"
#include "runtime/device.h"
#include "tests/support/catch.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

void check_refusal(const Outcome& outcome, int code, const std::string& message) {
  CHECK(outcome.code == code);
  CHECK_THAT(outcome.output, contains(message));
  INFO(outcome.output);
  CHECK(std::count(outcome.output.begin(), outcome.output.end(), '\n') == 1);
}

}  // namespace

TEST_CASE("text that is empty, missing or binary is refused by tokenize") {
  const TemporaryFolder folder;
  const std::string to = " -o " + (folder / "out.h5").string();
  const auto tokenize = [&](const std::filesystem::path& path) {
    return run(program() + " tokenize " + path.string() + to +
               " 2>&1 | grep -v '^tokenize'; exit ${PIPESTATUS[0]}");
  };
  CHECK(run("true").code == 0);
  const Outcome empty = tokenize(folder.write("empty.txt", ""));
  CHECK(empty.code == 3);
  CHECK_THAT(empty.output, contains("foretoken: "));
  const Outcome missing = tokenize(folder / "missing.txt");
  CHECK(missing.code == 3);
  CHECK_THAT(missing.output, contains("missing.txt"));
  const Outcome binary = tokenize(folder.write("binary", std::string("\x7f"
                                                                     "ELF\0\0\0",
                                                                     7)));
  CHECK(binary.code == 3);
  CHECK(!std::filesystem::exists(folder / "out.h5"));
}

TEST_CASE("a dataset that does not match the run is refused") {
  const TemporaryFolder folder;
  const std::string train =
      program() + " " + small_training(folder) + " --run-directory " + (folder / "run").string();
  check_refusal(run(train + " --set data.sequence_length=100000 --set model.max_position_embeddings=100000"),
                3, "data.h5");
  check_refusal(run(train + " --set model.vocab_size=100"), 2, "vocab_size 100");
  check_refusal(run(train + " --set data.path=" + folder.write("garbage.h5", "not HDF5 at all").string()), 3,
                "garbage.h5");
  check_refusal(run(train + " --set data.path=" + (folder / "missing.h5").string()), 3, "missing.h5");
  CHECK(!std::filesystem::exists(folder / "run"));
}

TEST_CASE("a run does not resume with the tokens of another tokenizer") {
  const TemporaryFolder folder;
  const std::string train = program() + " " + small_training(folder);
  const std::string run_path = (folder / "run").string();
  REQUIRE(run(train + " --set train.steps=2 --run-directory " + run_path).code == 0);

  TokenDatasetWriter writer(
      folder / "other.h5",
      {.name = "other", .digest = std::string(32, '0'), .vocab_size = 257, .end_of_document = 256});
  writer.append(std::vector<std::int32_t>(5000, 65));
  writer.end_document();
  writer.finish();
  writer.publish();
  check_refusal(run(fmt::format("{} train --resume {} --set train.steps=4 --set data.path={} 2>&1 >/dev/null",
                                program(), run_path, (folder / "other.h5").string())),
                3, "trained with tokenizer bytes");
  CHECK(run(program() + " inspect --verify " + run_path).code == 0);
}

TEST_CASE("a run starts from another run's weights with its settings, but not from a different model") {
  const TemporaryFolder folder;
  const std::string base = (folder / "base").string(), next = (folder / "next").string();
  REQUIRE(
      run(program() + " " + small_training(folder) + " --set train.steps=3 --run-directory " + base).code ==
      0);
  const std::string from = program() + " train --from " + base + " --run-directory " + next;
  check_refusal(run(from + " --set model.hidden_size=32 2>&1 >/dev/null"), 2,
                "model.embed_tokens.weight has shape [257, 16], but the new run has [257, 32]");
  CHECK(!std::filesystem::exists(next));
  const Outcome outcome = run(from + " --set mtp.depths=1");
  CHECK(outcome.code == 0);
  CHECK_THAT(outcome.output, contains("step 3/3") && contains("dropped  13 tensors, 2768 parameters: mtp 2"));
  CHECK(run(program() + " train --resume " + next + " --set train.steps=5").code == 0);
}

TEST_CASE("an unreadable or invalid configuration is refused before anything is written") {
  const TemporaryFolder folder;
  const std::string train = small_training(folder);
  check_refusal(run(program() + " train " + folder.path().string()), 2, folder.path().string());
  check_refusal(run(program() + " train " + folder.write("bad.toml", "[model\nx=").string()), 2,
                "bad.toml:1");
  check_refusal(run(program() + " train " + folder.write("key.toml", "[model]\nhidden_sizes = 3\n").string()),
                2, "unknown key model.hidden_sizes; did you mean model.hidden_size? (");
  check_refusal(run(program() + " " + train + " --resume " + (folder / "no-run").string()), 3, "no-run");
  const Outcome product =
      run(program_on(4) + " " + train + " --set parallel.pp=2 --set parallel.dp=3 --run-directory " +
          (folder / "run").string());
  CHECK(product.code == 2);
  CHECK_THAT(product.output, contains("pp 2 × dp 3 = 6, but the world has 4 ranks"));
  CHECK(!std::filesystem::exists(folder / "run"));
}

TEST_CASE("without a GPU, device cuda is an error and device auto uses the CPU") {
  if (Device::gpus() > 0) return;  // tests/gpu tests the case with a GPU
  const TemporaryFolder folder;
  const std::string train =
      program() + " " + small_training(folder) + " --run-directory " + (folder / "run").string();
  check_refusal(run(train + " --set run.device=cuda"), 2, "run: device \"cuda\"");
  check_refusal(run(train + " --set train.precision=bf16"), 2, "precision \"bf16\" needs GPUs");
  CHECK(!std::filesystem::exists(folder / "run"));
  const Outcome outcome = run(train + " --stop-after 2");
  CHECK(outcome.code == 75);
  CHECK_THAT(outcome.output, contains(with_cuda ? "cpu (this machine shows no GPU)"
                                                : "cpu (this build has no CUDA backend)"));
}

TEST_CASE("evaluate skips a checkpoint whose manifest is damaged") {
  const TemporaryFolder folder;
  const std::string where = (folder / "run").string();
  REQUIRE(run(program() + " " + small_training(folder) + " --run-directory " + where +
              " --set train.steps=4 --set checkpoint.every=2")
              .code == 0);
  const std::string evaluate =
      program() + " evaluate " + where + " --data " + (folder / "data.h5").string() + " --rows 4";
  folder.write("run/checkpoints/step_00000004/manifest.json", "{");
  const Outcome outcome = run(evaluate);
  CHECK(outcome.code == 0);
  CHECK_THAT(outcome.output, contains("step_00000004") && contains("trying the previous checkpoint") &&
                                 contains("at step 2"));
  folder.write("run/checkpoints/step_00000002/manifest.json", "{");
  check_refusal(run(evaluate), 3, "step_00000004");
}

// Compares foretoken train on a GPU, run from the command line, with the same run on the CPU.

#include <csignal>

#include <fmt/format.h>

#include "tests/support/catch.h"
#include "tests/support/models/training_lab.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// Returns the objective at every step of a run.
std::vector<double> losses(const std::filesystem::path& run) {
  std::vector<double> values;
  for (const std::vector<double>& step : TrainingLab::losses(run.string())) values.push_back(step.front());
  return values;
}

/// Runs `command`. Fails the test if the exit code is not `code`.
void train(const std::string& command, int code = 0) {
  const Outcome outcome = run(command);
  INFO(command << "\n" << outcome.output);
  REQUIRE(outcome.code == code);
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(a[i] - b[i]) / std::abs(b[i]));
  return largest;
}

struct Runs {
  TemporaryFolder folder;
  std::string command = small_training(folder);

  std::filesystem::path path(const std::string& name) const { return folder / name; }
  void fresh(const std::string& name, const std::string& sets, const std::string& program,
             int code = 0) const {
    train(fmt::format("{} {} --run-directory {} {}", program, command, path(name).string(), sets), code);
  }
  void resume(const std::string& name, const std::string& sets, const std::string& program,
              int code = 0) const {
    train(fmt::format("{} train --resume {} {}", program, path(name).string(), sets), code);
  }
};

const std::string steps = " --set train.steps=200 --set optimizer.warmup_steps=10";

}  // namespace

TEST_CASE("200 steps in bf16 on a GPU follow the CPU's fp32 losses within 2 %") {
  const Runs runs;
  runs.fresh("cpu", steps + " --set run.device=cpu", program());
  runs.fresh("gpu", steps + " --set run.device=cuda", program());
  const auto expected = losses(runs.path("cpu"));
  REQUIRE(expected.size() == 200);
  CHECK(largest_difference(losses(runs.path("gpu")), expected) < 0.02);
}

TEST_CASE("a deterministic run on a GPU repeats bit by bit, also over a checkpoint") {
  const std::string moments = GENERATE("f32", "bf16");
  const Runs runs;
  const std::string sets =
      " --set train.steps=20 --set optimizer.warmup_steps=2 --set train.deterministic=true --set "
      "optimizer.moments=" +
      moments;
  runs.fresh("a", sets, program());
  runs.fresh("b", sets + " --stop-after 9", program(), 75);
  runs.resume("b", "", program());
  CHECK(losses(runs.path("a")) == losses(runs.path("b")));
}

TEST_CASE("moments in bf16 on a GPU train as in fp32, from a checkpoint of either") {
  const Runs runs;
  const std::string sets = " --set train.steps=60 --set optimizer.warmup_steps=5 --set run.device=cuda";
  runs.fresh("fp32", sets, program());
  runs.fresh("bf16", sets + " --set optimizer.moments=bf16", program());
  runs.fresh("mixed", sets + " --set optimizer.moments=bf16 --stop-after 20", program(), 75);
  runs.resume("mixed", "--set optimizer.moments=f32 --stop-after 40", program(), 75);
  runs.resume("mixed", "--set optimizer.moments=bf16", program());
  const auto expected = losses(runs.path("fp32"));
  CHECK(largest_difference(losses(runs.path("bf16")), expected) < 0.02);
  CHECK(largest_difference(losses(runs.path("mixed")), expected) < 0.02);
}

TEST_CASE("a checkpoint goes from GPU to CPU ranks and back, in other layouts") {
  const Runs runs;
  const std::string sets =
      " --set train.steps=30 --set optimizer.warmup_steps=2 --set train.precision=f32 --set "
      "parallel.threads=2";
  runs.fresh("cpu", sets + " --set run.device=cpu", program());
  runs.fresh("moved", sets + " --set run.device=cuda --set parallel.pp=2 --stop-after 10", program_on(2), 75);
  runs.resume("moved", "--set run.device=cpu --set parallel.pp=1 --stop-after 20", program_on(2), 75);
  runs.resume("moved", "--set run.device=cuda", program());
  CHECK(largest_difference(losses(runs.path("moved")), losses(runs.path("cpu"))) < 2e-4);
}

TEST_CASE("layouts of ranks that share a GPU train the same model") {
  const Runs runs;
  const std::string sets = " --set train.steps=12 --set optimizer.warmup_steps=2 --set run.device=cuda";
  runs.fresh("one", sets, program());
  runs.fresh("pp2", sets + " --set parallel.pp=2", program_on(2));
  runs.fresh("dp2", sets + " --set parallel.dp=2 --set parallel.sharded_optimizer=true", program_on(2));
  const auto expected = losses(runs.path("one"));
  CHECK(largest_difference(losses(runs.path("pp2")), expected) < 3e-3);
  CHECK(largest_difference(losses(runs.path("dp2")), expected) < 3e-3);
}

TEST_CASE("every kind of heads trains on a GPU as on the CPU, and in a pipeline of ranks that share it") {
  const std::string heads = GENERATE("mtp.repeat=true", "mtp.kind=parallel", "mtp.kind=residual",
                                     "mtp.kind=residual --set mtp.residual_form=medusa", "mtp.kind=linear");
  CAPTURE(heads);
  const Runs runs;
  const std::string sets =
      " --set train.steps=12 --set optimizer.warmup_steps=2 --set train.precision=f32 --set " + heads;
  runs.fresh("cpu", sets + " --set run.device=cpu", program());
  runs.fresh("gpu", sets + " --set run.device=cuda", program());
  runs.fresh("pp2",
             sets + " --set run.device=cuda --set parallel.pp=2 --set parallel.schedule=zero_bubble_h1",
             program_on(2));
  const auto expected = losses(runs.path("cpu"));
  CHECK(largest_difference(losses(runs.path("gpu")), expected) < 2e-4);
  CHECK(largest_difference(losses(runs.path("pp2")), expected) < 2e-4);
}

TEST_CASE("heads train on a GPU on a frozen trunk in bf16, clipped by their own norm") {
  const Runs runs;
  runs.fresh("trunk", steps + " --set run.device=cuda --set mtp.depths=0", program());
  const std::string sets = steps +
                           " --set mtp.kind=parallel --set train.freeze=trunk --set optimizer.heads_clip=1" +
                           " --set train.init_from=" + runs.path("trunk").string();
  runs.fresh("cpu", sets + " --set run.device=cpu", program());
  runs.fresh("gpu", sets + " --set run.device=cuda", program());
  CHECK(largest_difference(losses(runs.path("gpu")), losses(runs.path("cpu"))) < 0.02);
}

TEST_CASE("a rank on a GPU whose peer stops answering says which, and the job ends with code 5") {
  const Runs runs;
  const std::string path = runs.path("run").string();
  Process training(
      fmt::format("{} {} --run-directory {} --set train.steps=100000 --set parallel.pp=2 --set "
                  "parallel.timeout_seconds=3 --set run.device=cuda",
                  program_on(2), runs.command, path));
  const auto steps_done = [&] {
    return std::filesystem::exists(path + "/metrics.jsonl") ? TrainingLab::losses(path).size() : 0;
  };
  REQUIRE(wait_until([&] { return steps_done() >= 3 || !training.running(); }));
  const std::vector<pid_t> ranks = training.children("foretoken");
  REQUIRE(ranks.size() == 2);
  kill(ranks[1], SIGSTOP);
  const Outcome outcome = training.wait(std::chrono::seconds(60));
  INFO(outcome.output);
  CHECK(outcome.code == 5);
  CHECK_THAT(outcome.output, contains("rank 0") && contains("peer rank 1") && contains("after 3 s"));
}

TEST_CASE("heads are added, changed and stripped on a GPU, and what is kept is as it was") {
  const Runs runs;
  const std::string device = GENERATE("cuda", "cpu");  // device of the base run
  const std::string few = " --set train.steps=4 --set optimizer.warmup_steps=1";
  runs.fresh("base", few + " --set run.device=" + device, program());
  const Checkpoint base = TrainingLab::checkpoint(runs.path("base").string(), 4);
  for (const std::string change : {"mtp.depths=3", "mtp.depths=0", "mtp.kind=parallel"}) {
    INFO(change << " of a run on " << device);
    const std::string from = fmt::format(
        "{} train --from {} --run-directory {} --set run.device=cuda --set {} --set optimizer.lr=1e-30 --set "
        "optimizer.weight_decay=0",
        program(), runs.path("base").string(), runs.path(change).string(), change);
    train(from);
    const Checkpoint after = TrainingLab::checkpoint(runs.path(change).string(), 4);
    int kept = 0;
    for (const PieceRecord& piece : base.manifest().pieces) {
      if (piece.kind != "model" ||
          (change != "mtp.depths=3" &&
           (piece.tensor.starts_with("model.layers.4.") || piece.tensor.starts_with("model.layers.5."))))
        continue;
      ++kept;
      CHECK(after.pieces("model", piece.tensor).front().digest == piece.digest);
    }
    CHECK(kept >= 39);  // 4 layers of 9 tensors, embedding, final norm, head
  }
}

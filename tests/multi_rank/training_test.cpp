// Tests full training runs. Compares layouts with each other. Compares interrupted and resumed runs with
// uninterrupted ones.

#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "launch/config/config_validator.h"
#include "launch/session/session.h"
#include "model/parameter_names.h"
#include "parallel/optimizer/shared_weights.h"
#include "parallel/pipeline/executor.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "tests/support/models/tiny_model.h"
#include "tests/support/models/training_lab.h"
#include "tests/support/multi_rank.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

std::vector<Sets> layouts_of(int ranks) {
  if (ranks == 1)
    return {{"parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b"},
            {"parallel.virtual_stages=2", "parallel.schedule=gpipe", "parallel.blocks_per_stage=3.5,3.5"}};
  if (ranks == 2)
    return {{"parallel.pp=2"},
            {"parallel.pp=2", "parallel.schedule=gpipe"},
            {"parallel.pp=2", "parallel.schedule=zero_bubble_h1"},
            {"parallel.pp=2", "parallel.virtual_stages=3", "parallel.schedule=interleaved_1f1b"},
            {"parallel.pp=2", "parallel.schedule=zero_bubble_h1", "parallel.blocks_per_stage=4.5,2.5"},
            {"parallel.pp=2", "parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b",
             "parallel.blocks_per_stage=1.5,2.5,2.5,0.5"},
            {"parallel.dp=2"},
            {"parallel.dp=2", "parallel.sharded_optimizer=true"}};
  if (ranks == 3) return {{"parallel.pp=3", "parallel.blocks_per_stage=2.5,4,0.5"}};
  return {{"parallel.pp=4"},
          {"parallel.pp=4", "parallel.blocks_per_stage=2.5,0.5,3.5,0.5"},
          {"parallel.pp=2", "parallel.dp=2"},
          {"parallel.pp=2", "parallel.dp=2", "parallel.sharded_optimizer=true", "parallel.bucket_mib=1"},
          {"parallel.pp=4", "parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b"},
          {"parallel.pp=2", "parallel.dp=2", "parallel.virtual_stages=2",
           "parallel.schedule=interleaved_1f1b", "parallel.sharded_optimizer=true"}};
}

}  // namespace

TEST_CASE("fifty steps have the serial run's losses to 1e-5, in every layout",
          "[ranks1][ranks2][ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const bool tied = GENERATE(false, true);
  const TrainingLab lab(world);
  const Sets model{tied ? "model.tie_word_embeddings=true" : "model.tie_word_embeddings=false"};
  lab.train_serial(model, {.run_directory = lab.path("serial")});
  int number = 0;
  for (const Sets& layout : layouts_of(world.size())) {
    INFO(name_of(layout));
    const std::string run = lab.path("run" + std::to_string(++number));
    CHECK(lab.train(world, model + layout, {.run_directory = run}) == ExitCode::done);
    if (world.rank() == 0) CHECK(loss_mismatch(run, lab.path("serial"), 1e-5) == "");
  }
  if (world.rank() == 0) {
    const auto losses = TrainingLab::losses(lab.path("serial"));
    CHECK(losses.back()[1] < 0.7 * losses.front()[1]);  // the model learns, so the comparison is meaningful
  }
}

// In a pipeline every product has the operands of the serial run. Data-parallel sums of gradients differ in
// their last bits, so some operands round to the adjacent 8-bit number.
TEST_CASE("an fp8 run has the serial run's losses in every layout, and resumes bitwise", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets fp8{"train.precision=fp8", "model.intermediate_size=32", "train.steps=12",
                 "checkpoint.every=12"};
  lab.train_serial(fp8, {.run_directory = lab.path("serial")});
  lab.train_serial({"model.intermediate_size=32", "train.steps=12"}, {.run_directory = lab.path("f32")});
  const auto check = [&](const Sets& layout, double tolerance) {
    INFO(name_of(layout));
    const std::string run = lab.path(name_of(layout));
    CHECK(lab.train(world, fp8 + layout, {.stop_after = 5, .run_directory = run}) == ExitCode::resumable);
    CHECK(lab.train(world, fp8 + layout, {.resume = run}) == ExitCode::done);
    if (world.rank() == 0) CHECK(loss_mismatch(run, lab.path("serial"), tolerance) == "");
  };
  check({"parallel.pp=2"}, 1e-5);
  check({"parallel.pp=2", "parallel.schedule=zero_bubble_h1"}, 1e-5);
  check({"parallel.dp=2", "parallel.sharded_optimizer=true"}, 1e-3);
  if (world.rank() == 0) CHECK(loss_mismatch(lab.path("f32"), lab.path("serial"), 1e-4) != "");
}

TEST_CASE("one step's gradients equal the serial run's, tensor by tensor, in every layout",
          "[ranks1][ranks2][ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const bool tied = GENERATE(false, true);
  const TrainingLab lab(world);
  // After one step without clipping the first moment is (1 − β₁) · gradient.
  const Sets one_step{tied ? "model.tie_word_embeddings=true" : "model.tie_word_embeddings=false",
                      "train.steps=1", "optimizer.warmup_steps=0", "optimizer.clip=0"};
  lab.train_serial(one_step, {.run_directory = lab.path("serial")});
  int number = 0;
  for (const Sets& layout : layouts_of(world.size())) {
    INFO(name_of(layout));
    const std::string run = lab.path("run" + std::to_string(++number));
    lab.train(world, one_step + layout, {.run_directory = run});
    if (world.rank() == 0)
      CHECK(tensor_mismatch(TrainingLab::checkpoint(run, 1), TrainingLab::checkpoint(lab.path("serial"), 1),
                            "exp_avg", 1e-4, 2e-8) == "");
  }
}

TEST_CASE("a cut inside a layer gives bitwise the gradients of a cut between layers", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets one_step{"parallel.pp=2", "train.steps=1", "optimizer.warmup_steps=0", "optimizer.clip=0"};
  const std::vector<Sets> ways{{"train.recompute=none"},
                               {"train.recompute=selective"},
                               {"train.recompute=full"},
                               {"parallel.schedule=zero_bubble_h1"},
                               {"parallel.schedule=zero_bubble_h1", "train.recompute=selective"},
                               {"mtp.kind=parallel"}};
  for (const Sets& way : ways) {
    INFO(name_of(way));
    const auto run = [&](const std::string& partition) {
      const std::string path = lab.path(name_of(way) + partition);
      lab.train(world, one_step + way + Sets{"parallel.blocks_per_stage=" + partition},
                {.run_directory = path});
      return path;
    };
    const std::string beside = run("4,3"), inside = run("4.5,2.5");
    if (world.rank() != 0) continue;
    CHECK(tensor_mismatch(TrainingLab::checkpoint(inside, 1), TrainingLab::checkpoint(beside, 1), "exp_avg",
                          0, 0) == "");
    CHECK_THAT(TrainingLab::log(inside), contains("embedding, layers 0-3, attention of layer 4\n") &&
                                             contains("MLP of layer 4, layers 5-6, final norm"));
  }
}

TEST_CASE("a step's gradients do not depend on the buffer's earlier contents", "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const bool tied = GENERATE(false, true);
  const std::int64_t depths = GENERATE(0, 2);
  const TrainingLab lab(world);
  std::vector<Sets> layouts = layouts_of(world.size());
  layouts.push_back({"parallel.pp=" + std::to_string(world.size()), "parallel.schedule=zero_bubble_h1"});
  for (const Sets& layout : layouts) {
    INFO(name_of(layout) << "tied " << tied << ", depths " << depths);
    const Config config =
        lab.config(layout + Sets{tied ? "model.tie_word_embeddings=true" : "model.tie_word_embeddings=false",
                                 "mtp.depths=" + std::to_string(depths)});
    const Grid grid = resolve_grid(config, world.size());
    Session session(world, config, grid, Purpose::train);
    Stream& stream = session.stream();
    RankModel& model = session.model();
    model.parameters().initialize(stream, 1);
    Executor executor(session.training().program, session.training().footprint, model,
                      *session.groups().pipeline, stream);
    std::vector<TinyBatch> batches;
    std::vector<MicrobatchInput> inputs;
    for (std::int64_t m = 0; m < microbatches_of(config, grid); ++m) {
      batches.emplace_back(MicrobatchShape{.rows = 1, .length = config.data.sequence_length}, depths,
                           config.model.vocab_size, static_cast<std::uint64_t>(m));
      inputs.push_back(batches.back().input());
    }
    const Tensor buffer = model.parameters().gradients();
    const auto gradients = [&](double left_over) {
      fill(stream, buffer, left_over);
      model.begin_step({.request = StepRequest::training(),
                        .microbatches = inputs,
                        .gradient_scales = std::vector<double>(static_cast<std::size_t>(depths) + 1, 0.1)});
      executor.run();
      session.synchronize();
      std::vector<float> values(static_cast<std::size_t>(buffer.elements()));
      copy(stream, buffer, tensor_over(std::span(values), buffer.shape));
      stream.synchronize();
      return values;
    };
    const std::vector<float> expected = gradients(0);
    for (const double left_over : {1.0, std::numeric_limits<double>::quiet_NaN()})
      CHECK(std::memcmp(gradients(left_over).data(), expected.data(), buffer.bytes()) == 0);
  }
}

TEST_CASE("a run that stops and resumes twice ends with the bits of an uninterrupted run",
          "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const std::string moments = GENERATE("optimizer.moments=f32", "optimizer.moments=bf16");
  const TrainingLab lab(world);
  for (const Sets& layout : layouts_of(world.size())) {
    INFO(moments << " " << name_of(layout));
    const Sets sets = layout + Sets{"train.steps=20", "checkpoint.every=4", moments};
    const std::string whole = lab.path(name_of(layout) + "whole"),
                      parts = lab.path(name_of(layout) + "parts");
    CHECK(lab.train(world, sets, {.run_directory = whole}) == ExitCode::done);
    CHECK(lab.train(world, sets, {.stop_after = 6, .run_directory = parts}) == ExitCode::resumable);
    CHECK(lab.train(world, sets, {.resume = parts, .stop_after = 13}) == ExitCode::resumable);
    CHECK(lab.train(world, sets, {.resume = parts}) == ExitCode::done);
    if (world.rank() != 0) continue;
    CHECK(loss_mismatch(parts, whole, 0) == "");
    for (const char* kind : {"model", "exp_avg", "exp_avg_sq"})
      CHECK(tensor_mismatch(TrainingLab::checkpoint(parts, 20), TrainingLab::checkpoint(whole, 20), kind, 0,
                            0) == "");
  }
}

TEST_CASE("a run resumes in any other layout with the losses of an uninterrupted run", "[ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  lab.train_serial({"train.steps=30"}, {.run_directory = lab.path("serial")});
  const std::vector<Sets> layouts = layouts_of(world.size());
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    const Sets &before = layouts[i], &after = layouts[(i + 1) % layouts.size()];
    INFO(name_of(before) << "then " << name_of(after));
    const std::string run = lab.path("run" + std::to_string(i));
    lab.train(world, before + Sets{"train.steps=30"}, {.stop_after = 15, .run_directory = run});
    CHECK(lab.train(world, after + Sets{"train.steps=30"}, {.resume = run}) == ExitCode::done);
    if (world.rank() == 0) CHECK(loss_mismatch(run, lab.path("serial"), 1e-5) == "");
  }
}

// Layouts sum gradients in different orders. If a gradient differs in its last bits, the stochastic rounding
// of its moments may give another result. So the losses of two layouts differ by as much as they differ from
// fp32, here by 1e-4.
TEST_CASE("fifty steps with bf16 moments have the losses of fp32 moments to 1e-3, in every layout",
          "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets bf16{"optimizer.moments=bf16"};
  lab.train_serial({}, {.run_directory = lab.path("fp32")});
  lab.train_serial(bf16, {.run_directory = lab.path("bf16")});
  if (world.rank() == 0) {
    CHECK(loss_mismatch(lab.path("bf16"), lab.path("fp32"), 1e-3) == "");
    CHECK(loss_mismatch(lab.path("bf16"), lab.path("fp32"), 1e-7) != "");
  }
  int number = 0;
  for (const Sets& layout : layouts_of(world.size())) {
    INFO(name_of(layout));
    const std::string run = lab.path("run" + std::to_string(++number));
    CHECK(lab.train(world, bf16 + layout, {.run_directory = run}) == ExitCode::done);
    if (world.rank() == 0) CHECK(loss_mismatch(run, lab.path("fp32"), 1e-3) == "");
  }
}

TEST_CASE("a run resumes with its moments in the other dtype, and in any other layout", "[ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  lab.train_serial({"train.steps=30"}, {.run_directory = lab.path("serial")});
  const std::vector<Sets> layouts = layouts_of(world.size());
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    const Sets &before = layouts[i], &after = layouts[(i + 1) % layouts.size()];
    const std::string run = lab.path("run" + std::to_string(i));
    const bool to_bf16 = i % 2 == 0;
    const Sets first{"train.steps=30", to_bf16 ? "optimizer.moments=f32" : "optimizer.moments=bf16"};
    const Sets then{"train.steps=30", to_bf16 ? "optimizer.moments=bf16" : "optimizer.moments=f32"};
    INFO(name_of(before + first) << "then " << name_of(after + then));
    lab.train(world, before + first, {.stop_after = 15, .run_directory = run});
    CHECK(lab.train(world, after + then, {.resume = run}) == ExitCode::done);
    if (world.rank() != 0) continue;
    CHECK(loss_mismatch(run, lab.path("serial"), 1e-3) == "");
    for (const auto& [step, bf16] : {std::pair{15, !to_bf16}, {30, to_bf16}}) {
      const Checkpoint checkpoint = TrainingLab::checkpoint(run, step);
      for (const PieceRecord& piece : checkpoint.manifest().pieces)
        CHECK(piece.dtype == (bf16 && piece.kind != "model" ? DType::bf16 : DType::f32));
    }
  }
}

TEST_CASE("a damaged newest checkpoint is skipped, and the previous one is loaded", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const std::string damage = GENERATE("a flipped byte", "a truncated shard", "a missing shard");
  INFO(damage);
  const TrainingLab lab(world);
  const Sets sets{"parallel.pp=2", "train.steps=12", "checkpoint.every=4"};
  const std::string run = lab.path("run"), whole = lab.path("whole");
  lab.train(world, sets, {.run_directory = whole});
  lab.train(world, sets, {.stop_after = 8, .run_directory = run});
  if (world.rank() == 0) {
    const PieceRecord piece = TrainingLab::checkpoint(run, 8).manifest().pieces.back();
    const std::string shard = run + "/checkpoints/step_00000008/" + piece.file;
    if (damage == "a missing shard") {
      std::filesystem::remove(shard);
    } else if (damage == "a truncated shard") {
      std::filesystem::resize_file(shard, static_cast<std::uintmax_t>(piece.address) + 3);
    } else {
      std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(piece.address);
      const char flipped = static_cast<char>(file.get() ^ 0x10);
      file.seekp(piece.address);
      file.put(flipped);
    }
  }
  world.barrier();
  CHECK(lab.train(world, sets, {.resume = run}) == ExitCode::done);
  if (world.rank() == 0) {
    CHECK(loss_mismatch(run, whole, 0) == "");
    std::ifstream log(run + "/log.txt");
    const std::string text{std::istreambuf_iterator<char>(log), {}};
    CHECK_THAT(text, contains("resume     step 4 of 12"));
  }
}

TEST_CASE("a replica that differs stops the run naming tensor and ranks", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  Session session(world, lab.config({"parallel.pp=2"}), {.pp = 2}, Purpose::train);
  session.model().parameters().initialize(session.stream(), 1);
  CHECK_NOTHROW(check_replicas(session.stream(), session.model().parameters(), session.groups()));
  if (world.rank() == 1) session.model().parameters().value(embedding_name).as<float>()[77] += 1e-6F;
  CHECK_THROWS_WITH(check_replicas(session.stream(), session.model().parameters(), session.groups()),
                    contains("model.embed_tokens.weight") && contains("rank 1"));
}

TEST_CASE("a checkpoint with other conventions is refused, and the run keeps its files", "[ranks1][ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets sets{"train.steps=4", "optimizer.warmup_steps=0"};
  const std::string run = lab.path("run");
  lab.train(world, sets, {.stop_after = 2, .run_directory = run});
  CHECK_THROWS_WITH(lab.train(world, sets + Sets{"mtp.concat=hidden_first"}, {.resume = run}),
                    contains("mtp.concat embedding_first") && contains("hidden_first"));
  CHECK_THROWS_WITH(lab.train(world, sets, {.resume = lab.path("elsewhere")}), contains("elsewhere"));
  CHECK(lab.train(world, sets, {.resume = run}) == ExitCode::done);
}

// Tests prediction heads on a stage of their own and on one stage per depth. The trained model must be the
// same as with all heads on the last stage, and each rank must hold only the tensors that its stages read.

#include <fstream>

#include <nlohmann/json.hpp>

#include "launch/config/config_validator.h"
#include "launch/session/session.h"
#include "tests/support/models/training_lab.h"
#include "tests/support/multi_rank.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// Placements for two depths and a trunk of 7 layers.
std::vector<Sets> placements_of(int ranks) {
  const Sets own{"mtp.placement=own_stage"}, per_depth{"mtp.placement=stage_per_depth"};
  const auto interleaved = [](int pp, int v) {
    return Sets{"parallel.pp=" + std::to_string(pp), "parallel.virtual_stages=" + std::to_string(v),
                "parallel.schedule=interleaved_1f1b"};
  };
  if (ranks == 2)
    return {own + Sets{"parallel.pp=2", "parallel.schedule=gpipe"}, own + interleaved(2, 2),
            per_depth + interleaved(2, 2),
            // Rank 1 has the main head's stage and the stage of depth 2.
            per_depth + interleaved(2, 3) + Sets{"parallel.blocks_per_stage=1.5,2,2,1.5,0,0"},
            per_depth + Sets{"parallel.pp=2", "parallel.virtual_stages=2", "parallel.schedule=gpipe"}};
  if (ranks == 3)
    return {own + Sets{"parallel.pp=3"}, per_depth + Sets{"parallel.pp=3"},
            per_depth + Sets{"parallel.pp=3", "parallel.schedule=zero_bubble_h1"}};
  return {own + Sets{"parallel.pp=2", "parallel.dp=2"}, per_depth + Sets{"parallel.pp=4"},
          per_depth + Sets{"parallel.pp=4", "parallel.schedule=zero_bubble_h1"},
          per_depth + interleaved(4, 2),
          per_depth + interleaved(2, 2) + Sets{"parallel.dp=2", "parallel.sharded_optimizer=true"}};
}

std::vector<nlohmann::json> evaluations_of(const std::string& run) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(run + "/metrics.jsonl");
  for (std::string text; std::getline(file, text);)
    if (auto line = nlohmann::json::parse(text); line["kind"] == "evaluation")
      lines.push_back(std::move(line));
  return lines;
}

}  // namespace

TEST_CASE("heads on any stage train as on the last stage, for every connection between heads",
          "[ranks2][ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets steps{"train.steps=12"};
  const Sets one_step{"train.steps=1", "optimizer.warmup_steps=0", "optimizer.clip=0"};
  const std::vector<Sets> models{{"model.tie_word_embeddings=true"},
                                 {"mtp.trunk_hidden=raw"},
                                 {"mtp.recycled_hidden=raw", "train.recompute=selective"},
                                 {"mtp.trunk_hidden=raw", "mtp.recycled_hidden=raw"},
                                 {"mtp.repeat=true", "mtp.recycled_hidden=raw"},
                                 {"mtp.kind=parallel", "train.recompute=selective"},
                                 {"mtp.detach_heads=true", "mtp.trunk_hidden=raw"},
                                 {"mtp.kind=residual", "mtp.detach_heads=true"}};
  const std::vector<Sets> placements = placements_of(world.size());
  for (std::size_t i = 0; i < models.size(); ++i) {
    const Sets& model = models[i];
    const std::string serial = lab.path("serial " + name_of(model)), gradients = serial + "one";
    lab.train_serial(model + steps, {.run_directory = serial});
    lab.train_serial(model + one_step, {.run_directory = gradients});
    for (const std::size_t j : {i, i + 1}) {  // trains two of the models with each placement
      const Sets& placement = placements[j % placements.size()];
      INFO(name_of(model) << "on " << name_of(placement));
      const std::string run = lab.path(name_of(model) + name_of(placement)), one = run + "one";
      CHECK(lab.train(world, model + placement + steps, {.run_directory = run}) == ExitCode::done);
      lab.train(world, model + placement + one_step, {.run_directory = one});
      if (world.rank() != 0) continue;
      CHECK(loss_mismatch(run, serial, 1e-5) == "");
      CHECK(tensor_mismatch(TrainingLab::checkpoint(one, 1), TrainingLab::checkpoint(gradients, 1), "exp_avg",
                            1e-4, 2e-8) == "");
    }
  }
}

TEST_CASE("recomputed blocks on head stages give the same bits", "[ranks3]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets sets{"parallel.pp=3", "mtp.placement=stage_per_depth", "train.steps=4",
                  "optimizer.warmup_steps=0"};
  for (const std::string kind : {"sequential", "parallel"}) {
    const std::string plain = lab.path(kind);
    lab.train(world, sets + Sets{"mtp.kind=" + kind}, {.run_directory = plain});
    lab.train(world, sets + Sets{"mtp.kind=" + kind, "train.recompute=full"},
              {.run_directory = plain + "full"});
    if (world.rank() == 0)
      CHECK(tensor_mismatch(TrainingLab::checkpoint(plain + "full", 4), TrainingLab::checkpoint(plain, 4),
                            "model", 0, 0) == "");
  }
}

TEST_CASE("a run moves its heads to other stages on resume", "[ranks2][ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets steps{"train.steps=20"};
  const std::vector<Sets> placements = placements_of(world.size());
  for (const Sets& model : std::vector<Sets>{{"mtp.repeat=true"}, {"mtp.kind=parallel"}, {}}) {
    const std::string serial = lab.path("serial " + name_of(model)), run = lab.path("run " + name_of(model));
    lab.train_serial(model + steps, {.run_directory = serial});
    INFO(name_of(model));
    lab.train(world, model + steps + Sets{"parallel.pp=" + std::to_string(world.size())},
              {.stop_after = 4, .run_directory = run});
    int step = 4;
    for (const Sets& placement : placements)
      CHECK(lab.train(world, model + steps + placement, {.resume = run, .stop_after = step += 3}) ==
            ExitCode::resumable);
    CHECK(lab.train(world, model + steps + placements.front(), {.resume = run}) == ExitCode::done);
    // On one layout a resumed run has the bits of an uninterrupted run.
    for (const std::string name : {"whole", "parts"})
      lab.train(world, model + steps + placements.back(),
                {.stop_after = name == "parts" ? 11 : 0, .run_directory = run + name});
    lab.train(world, model + steps + placements.back(), {.resume = run + "parts"});
    if (world.rank() != 0) continue;
    CHECK(loss_mismatch(run, serial, 1e-5) == "");
    const Checkpoint moved = TrainingLab::checkpoint(run, 20), expected = TrainingLab::checkpoint(serial, 20);
    CHECK(moved.manifest().pieces.size() >= expected.manifest().pieces.size());
    for (const PieceRecord& piece : expected.manifest().pieces) CHECK(moved.has(piece.kind, piece.tensor));
    for (const char* kind : {"model", "exp_avg", "exp_avg_sq"})
      CHECK(tensor_mismatch(TrainingLab::checkpoint(run + "parts", 20),
                            TrainingLab::checkpoint(run + "whole", 20), kind, 0, 0) == "");
  }
}

TEST_CASE("heads on any stage are evaluated as on the last stage", "[ranks2][ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets sets{"train.steps=6", "train.evaluate_every=3", "train.evaluate_rows=21",
                  "data.validation_path=" + lab.path("data.h5")};
  for (const Sets& model : std::vector<Sets>{{}, {"mtp.kind=parallel"}, {"mtp.kind=linear"}}) {
    const std::string serial = lab.path("serial " + name_of(model));
    lab.train_serial(model + sets, {.run_directory = serial});
    for (const Sets& placement : placements_of(world.size())) {
      INFO(name_of(model) << "on " << name_of(placement));
      const std::string run = lab.path(name_of(model) + name_of(placement));
      lab.train(world, model + sets + placement, {.run_directory = run});
      if (world.rank() != 0) continue;
      const auto actual = evaluations_of(run), expected = evaluations_of(serial);
      REQUIRE(actual.size() == 3);
      for (std::size_t i = 0; i < 3; ++i)
        for (const char* key : {"main_loss", "mtp1_loss", "mtp2_loss", "mtp1_acceptance", "mtp2_acceptance",
                                "accepted_length"}) {
          INFO(key);
          CHECK(actual[i][key].get<double>() == Approx(expected[i][key].get<double>()).epsilon(1e-5));
        }
    }
  }
}

TEST_CASE("a stage of heads holds only the tensors that it reads", "[ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const auto units = [&](const Sets& sets) {
    const Config config = lab.config(sets + Sets{"parallel.pp=4", "mtp.placement=stage_per_depth"});
    Session session(world, config, resolve_grid(config, world.size()), Purpose::train);
    std::string names;
    for (const ParameterUnit& unit : session.model().parameters().units())
      names += unit.name + (unit.shared() && unit.canonical ? "*, " : unit.shared() ? "', " : ", ");
    return names;
  };
  const auto is = [&](const Sets& sets, const std::vector<std::string>& of_depths,
                      const std::string& of_main) {
    INFO(name_of(sets));
    const std::string names = units(sets);
    if (world.rank() >= 2) CHECK(names == of_depths[static_cast<std::size_t>(world.rank() - 2)]);
    if (world.rank() == 1) CHECK(names.substr(names.find("final")) == of_main);
    if (world.rank() == 0) CHECK(names.find("final") == std::string::npos);
  };
  is({}, {"embedding', mtp 1, head', ", "embedding', mtp 2, head', "}, "final norm, head*, ");
  is({"model.tie_word_embeddings=true"}, {"embedding', mtp 1, ", "embedding', mtp 2, "}, "final norm, ");
  is({"mtp.repeat=true"}, {"embedding', mtp 1*, head', ", "embedding', mtp 1', head', "},
     "final norm, head*, ");
  is({"mtp.kind=parallel"}, {"final norm', mtp 1, head', ", "final norm', mtp 2, head', "},
     "final norm*, head*, ");
  is({"mtp.kind=residual"}, {"mtp 1, head', ", "mtp 2, head', "}, "final norm, head*, ");
  is({"mtp.kind=linear"}, {"mtp 1, ", "mtp 2, "}, "final norm, head, ");

  // The memory of the trunk and of each depth does not depend on the number of depths on other stages.
  const auto planned = [&](int depths, const std::string& stages) {
    const Config config =
        lab.config({"parallel.pp=4", "mtp.kind=parallel", "mtp.placement=stage_per_depth",
                    "mtp.depths=" + std::to_string(depths), "parallel.blocks_per_stage=" + stages});
    Session session(world, config, resolve_grid(config, world.size()), Purpose::train);
    return session.model().memory().use().total();
  };
  const auto one = planned(1, "2,2,3,0"), two = planned(2, "2,5,0,0");
  if (world.rank() == 0 || world.rank() == 3) CHECK(one < two + 4096);
  if (world.rank() == 0 || world.rank() == 3) CHECK(two < one + 4096);
}

TEST_CASE("the start-up table names the stage of each depth", "[ranks3]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  lab.train(world,
            {"parallel.pp=3", "mtp.placement=stage_per_depth", "train.steps=1", "optimizer.warmup_steps=0"},
            {.run_directory = lab.path("run")});
  if (world.rank() != 0) return;
  const std::string log = TrainingLab::log(lab.path("run"));
  CHECK_THAT(log, contains("embedding, layers 0-6, final norm, head\n") &&
                      contains("mtp 1, embedding and head replica\n") &&
                      contains("mtp 2, embedding and head replica\n"));
}

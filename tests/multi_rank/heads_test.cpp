// Trains every kind of prediction heads in full runs. Compares layouts with each other. Compares interrupted
// and resumed runs with uninterrupted ones.

#include <cmath>

#include "tests/multi_rank/check_resume.h"
#include "tests/support/models/training_lab.h"
#include "tests/support/multi_rank.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

const std::vector<Sets>& heads() {
  static const std::vector<Sets> all{
      {"mtp.repeat=true", "mtp.depths=3"},
      {"mtp.detach_heads=true", "model.tie_word_embeddings=true"},
      {"mtp.kind=parallel", "mtp.depths=3"},
      {"mtp.kind=parallel", "mtp.detach_heads=true", "model.tie_word_embeddings=true"},
      {"mtp.kind=residual", "model.tie_word_embeddings=true"},
      {"mtp.kind=residual", "mtp.residual_form=medusa"},
      {"mtp.kind=residual", "mtp.residual_form=medusa", "mtp.own_output=true"},
      {"mtp.kind=linear", "model.tie_word_embeddings=true"}};
  return all;
}

std::vector<Sets> layouts_of(int ranks) {
  if (ranks == 1)
    return {{"parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b"},
            {"parallel.virtual_stages=4", "parallel.schedule=gpipe", "mtp.placement=stage_per_depth"}};
  if (ranks == 2)
    return {{"parallel.pp=2"},
            {"parallel.pp=2", "parallel.schedule=zero_bubble_h1", "parallel.blocks_per_stage=5.5,1.5"},
            {"parallel.pp=2", "parallel.virtual_stages=3", "parallel.schedule=interleaved_1f1b"},
            {"parallel.pp=2", "parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b",
             "mtp.placement=stage_per_depth"},
            {"parallel.pp=2", "parallel.schedule=zero_bubble_h1", "mtp.placement=own_stage"},
            {"parallel.dp=2", "parallel.sharded_optimizer=true"}};
  return {
      {"parallel.pp=4"},
      {"parallel.pp=4", "mtp.placement=stage_per_depth"},
      {"parallel.pp=4", "mtp.placement=own_stage"},
      {"parallel.pp=4", "parallel.schedule=zero_bubble_h1", "mtp.placement=stage_per_depth"},
      {"parallel.pp=2", "parallel.dp=2", "parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b",
       "parallel.sharded_optimizer=true", "mtp.placement=stage_per_depth"},
      {"parallel.pp=2", "parallel.dp=2", "parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b",
       "parallel.sharded_optimizer=true"}};
}

}  // namespace

TEST_CASE("every kind of heads trains as in the serial run, in every layout", "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets steps{"train.steps=15"};
  // After one step without clipping the first moment is (1 − β₁) · gradient.
  const Sets one_step{"train.steps=1", "optimizer.warmup_steps=0", "optimizer.clip=0"};
  for (const Sets& kind : heads()) {
    const std::string serial = lab.path("serial " + name_of(kind)), gradients = serial + "one";
    lab.train_serial(kind + steps, {.run_directory = serial});
    lab.train_serial(kind + one_step, {.run_directory = gradients});
    for (const Sets& layout : layouts_of(world.size())) {
      INFO(name_of(kind) << "on " << name_of(layout));
      const std::string run = lab.path(name_of(kind) + name_of(layout)), one = run + "one";
      CHECK(lab.train(world, kind + layout + steps, {.run_directory = run}) == ExitCode::done);
      lab.train(world, kind + layout + one_step, {.run_directory = one});
      if (world.rank() != 0) continue;
      CHECK(loss_mismatch(run, serial, 1e-5) == "");
      CHECK(tensor_mismatch(TrainingLab::checkpoint(one, 1), TrainingLab::checkpoint(gradients, 1), "exp_avg",
                            1e-4, 2e-8) == "");
    }
    if (world.rank() == 0) {
      const auto losses = TrainingLab::losses(serial);
      for (std::size_t k = 0; k < losses.front().size(); ++k)
        CHECK(losses.back()[k] < 0.98 * losses.front()[k]);  // every depth learns
    }
  }
}

TEST_CASE("a run with any kind of heads resumes bitwise, and in another layout with the same losses",
          "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const std::vector<Sets> layouts = layouts_of(world.size());
  for (std::size_t i = 0; i < heads().size(); ++i) {
    const Sets sets = heads()[i] + Sets{"train.steps=10"};
    const Sets &layout = layouts[i % layouts.size()], &other = layouts[(i + 1) % layouts.size()];
    INFO(name_of(sets) << "on " << name_of(layout));
    check_resume(lab, world, sets, layout, other, 10, 4, 1e-5, loss_mismatch);
  }
}

TEST_CASE("a checkpoint stores a repeated module once", "[ranks1]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  lab.train(world, {"mtp.repeat=true", "mtp.depths=3", "train.steps=1", "optimizer.warmup_steps=0"},
            {.run_directory = lab.path("run")});
  const Checkpoint checkpoint = TrainingLab::checkpoint(lab.path("run"), 1);
  CHECK(checkpoint.has("model", "model.layers.7.eh_proj.weight"));
  CHECK_FALSE(checkpoint.has("model", "model.layers.8.eh_proj.weight"));
  CHECK(checkpoint.info().conventions.at("mtp.repeat") == "true");
}

TEST_CASE("a checkpoint with another kind of heads is refused", "[ranks1]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const std::string run = lab.path("run");
  lab.train(world, {"mtp.kind=parallel", "train.steps=2", "optimizer.warmup_steps=0"},
            {.stop_after = 1, .run_directory = run});
  CHECK_THROWS_WITH(lab.train(world, {"train.steps=2", "optimizer.warmup_steps=0"}, {.resume = run}),
                    contains("trained with mtp.kind parallel, but this run has sequential"));
}

namespace {

/// One tensor of a checkpoint.
std::vector<float> values_of(const Checkpoint& checkpoint, const std::string& kind, const std::string& name) {
  const PieceRecord& piece = checkpoint.pieces(kind, name).front();
  std::vector<float> values(static_cast<std::size_t>(piece.shape.elements()));
  checkpoint.read(kind, name, {0, piece.shape.elements()}, tensor_over(std::span(values), piece.shape));
  return values;
}

}  // namespace

TEST_CASE("new heads train on a frozen trunk, whose bits do not change, in every layout",
          "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const bool tied = GENERATE(false, true);
  const Sets model{tied ? "model.tie_word_embeddings=true" : "model.tie_word_embeddings=false"};
  const std::string trunk = lab.path("trunk");
  lab.train_serial(model + Sets{"mtp.depths=0", "train.steps=10"}, {.run_directory = trunk});
  for (const Sets& kind : std::vector<Sets>{{"mtp.depths=2"},
                                            {"mtp.kind=parallel", "mtp.depths=2"},
                                            {"mtp.kind=residual", "mtp.residual_form=medusa"}}) {
    const Sets sets = model + kind + Sets{"train.freeze=trunk", "train.init_from=" + trunk, "train.steps=12"};
    const std::string serial = lab.path("serial " + name_of(kind));
    lab.train_serial(sets, {.run_directory = serial});
    const std::string still = lab.path("still " + name_of(kind));
    lab.train_serial(sets + Sets{"optimizer.lr=1e-30"}, {.run_directory = still});
    if (world.rank() == 0)  // trained heads have smaller losses than untrained heads on the same rows
      for (const std::size_t depth : {2, 3})
        CHECK(TrainingLab::losses(serial).back()[depth] < TrainingLab::losses(still).back()[depth]);
    for (const Sets& layout : layouts_of(world.size())) {
      INFO(name_of(kind) << "on " << name_of(layout));
      const std::string run = lab.path(name_of(kind) + name_of(layout));
      lab.train(world, sets + layout, {.stop_after = 5, .run_directory = run});
      CHECK(lab.train(world, sets + layout, {.resume = run}) == ExitCode::done);
      if (world.rank() != 0) continue;
      CHECK(loss_mismatch(run, serial, 1e-5) == "");
      CHECK_THAT(TrainingLab::log(run), contains("at step 10,") && contains("parameters: mtp 1-2\n"));
      const Checkpoint before = TrainingLab::checkpoint(trunk, 10), after = TrainingLab::checkpoint(run, 12);
      CHECK(tensor_mismatch(after, before, "model", 0, 0) == "");
      for (const PieceRecord& piece : before.manifest().pieces)
        CHECK_FALSE(after.has("exp_avg", piece.tensor));
    }
  }
}

TEST_CASE("heads with their own clipping norm do not change the main model's update",
          "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets one_step{"train.steps=1", "optimizer.warmup_steps=0", "optimizer.clip=0.5"};
  const Sets detached{"mtp.detach_heads=true", "optimizer.heads_clip=0.125"};
  const std::string main_only = lab.path("main only");
  lab.train_serial(one_step + Sets{"mtp.depths=0"}, {.run_directory = main_only});
  for (const Sets& layout : layouts_of(world.size())) {
    INFO(name_of(layout));
    const std::string run = lab.path(name_of(layout));
    lab.train(world, one_step + detached + layout, {.run_directory = run});
    if (world.rank() != 0) continue;
    const Checkpoint checkpoint = TrainingLab::checkpoint(run, 1);
    // The first moment is (1 − β₁) of the clipped gradient.
    CHECK(tensor_mismatch(checkpoint, TrainingLab::checkpoint(main_only, 1), "exp_avg", 1e-4, 2e-8) == "");
    double squares = 0;
    for (const PieceRecord& piece : checkpoint.manifest().pieces)
      if (piece.kind == "exp_avg" && piece.range.begin == 0 &&
          (piece.tensor.starts_with("model.layers.7.") || piece.tensor.starts_with("model.layers.8.")))
        for (const float moment : values_of(checkpoint, "exp_avg", piece.tensor))
          squares += 100.0 * moment * moment;
    CHECK(std::sqrt(squares) == Approx(0.125).epsilon(1e-4));
    CHECK_THAT(TrainingLab::log(run), contains(" heads "));
  }
}

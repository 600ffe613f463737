// Tests runs that start from the weights of a run with other prediction heads.

#include <deque>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "io/checkpoint/checkpoint_writer.h"
#include "tests/support/models/training_lab.h"
#include "tests/support/multi_rank.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

const std::string heads_prefix[] = {"model.layers.7.", "model.layers.8.", "model.layers.9."};

/// The main loss of the first or last evaluation of the run.
double evaluated(const std::string& run, bool first) {
  double loss = -1;
  std::ifstream file(run + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto metrics = nlohmann::json::parse(line);
    if (metrics["kind"] != "evaluation") continue;
    loss = metrics["main_loss"];
    if (first) break;
  }
  return loss;
}

/// Number of tensors in the checkpoint whose names start with `prefix`.
int tensors_of(const Checkpoint& checkpoint, const std::string& prefix) {
  int count = 0;
  for (const PieceRecord& piece : checkpoint.manifest().pieces)
    count += piece.kind == "model" && piece.range.begin == 0 && piece.tensor.starts_with(prefix);
  return count;
}

std::vector<float> values_of(const Checkpoint& checkpoint, const std::string& name) {
  const Shape& shape = checkpoint.pieces("model", name).front().shape;
  std::vector<float> values(static_cast<std::size_t>(shape.elements()));
  checkpoint.read("model", name, {0, shape.elements()}, tensor_over(std::span(values), shape));
  return values;
}

/// The first tensor that `actual` and `expected` both have, with different bits. Depths beyond the first
/// `heads` are not compared.
std::string kept_mismatch(const Checkpoint& actual, const Checkpoint& expected, std::size_t heads) {
  int compared = 0;
  for (const PieceRecord& piece : actual.manifest().pieces) {
    if (piece.kind != "model" || piece.range.begin != 0) continue;
    bool drawn = false;
    for (std::size_t k = heads; k < std::size(heads_prefix); ++k)
      drawn |= piece.tensor.starts_with(heads_prefix[k]);
    if (drawn) continue;
    ++compared;
    if (values_of(actual, piece.tensor) != values_of(expected, piece.tensor)) return piece.tensor;
  }
  return compared < 60 ? "few tensors were compared" : "";
}

std::vector<Sets> layouts_of(int ranks) {
  if (ranks == 1) return {{"parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b"}};
  if (ranks == 2) return {{"parallel.pp=2"}, {"parallel.dp=2", "parallel.sharded_optimizer=true"}};
  return {{"parallel.pp=4"},
          {"parallel.pp=2", "parallel.dp=2", "parallel.virtual_stages=2",
           "parallel.schedule=interleaved_1f1b", "parallel.sharded_optimizer=true"}};
}

struct Change {
  Sets sets;
  std::size_t kept = 0;   // heads kept from the base
  std::size_t heads = 0;  // heads of the new run
  std::string log;
};

}  // namespace

TEST_CASE(
    "a run starts from another run's weights with heads added, dropped or of another kind, in every layout",
    "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const bool tied = GENERATE(false, true);
  const Sets common{tied ? "model.tie_word_embeddings=true" : "model.tie_word_embeddings=false",
                    "data.validation_path=" + lab.path("data.h5"), "train.evaluate_rows=16"};
  const std::string base = lab.path("base");
  lab.train_serial(common + Sets{"train.steps=6"}, {.run_directory = base});
  const std::vector<Change> changes{
      {{"mtp.depths=3"}, 2, 3, "parameters: mtp 3\n             model.layers.9: "},
      {{"mtp.depths=1"}, 1, 1, "parameters: mtp 2\n             model.layers.8: "},
      {{"mtp.depths=0"}, 0, 0, "parameters: mtp 1-2\n             model.layers.7 to 8, each: "},
      {{"mtp.kind=parallel", "mtp.depths=3"}, 0, 3, "model.layers.7 to 9, each: "},
      {{"mtp.kind=residual", "mtp.residual_form=medusa", "mtp.own_output=true", "mtp.depths=2"},
       0,
       2,
       tied ? "fc1.weight, head.weight (from model.embed_tokens.weight)"
            : "fc1.weight, head.weight (from lm_head.weight)"},
      {{"mtp.kind=linear", "mtp.depths=1"}, 0, 1, "  drawn    1 tensor, 4112 parameters: mtp 1\n"}};
  // With this learning rate the update is zero in f32, also for values of 0, at which Medusa heads start.
  const Sets still{"train.init_from=" + base, "train.steps=1", "optimizer.warmup_steps=0",
                   "optimizer.lr=1e-60", "optimizer.weight_decay=0"};
  for (const Change& change : changes) {
    const std::string serial = lab.path("serial " + name_of(change.sets));
    lab.train_serial(common + still + change.sets, {.run_directory = serial});
    for (const Sets& layout : layouts_of(world.size())) {
      INFO(name_of(change.sets) << "on " << name_of(layout) << "tied " << tied);
      const std::string run = lab.path(name_of(change.sets) + name_of(layout));
      CHECK(lab.train(world, common + still + change.sets + layout, {.run_directory = run}) ==
            ExitCode::done);
      if (world.rank() != 0) continue;
      const Checkpoint before = TrainingLab::checkpoint(base, 6), after = TrainingLab::checkpoint(run, 1);
      CHECK(kept_mismatch(after, before, change.kept) == "");
      CHECK(tensor_mismatch(after, TrainingLab::checkpoint(serial, 1), "model", 0, 0) == "");
      for (std::size_t k = 0; k < std::size(heads_prefix); ++k)
        CHECK((tensors_of(after, heads_prefix[k]) > 0) == (k < change.heads));
      const std::string own =
          heads_prefix[1] + "head.weight";  // starts as a copy of the trained output matrix
      if (change.heads == 2 && after.has("model", own))
        CHECK(values_of(after, own) ==
              values_of(before, tied ? "model.embed_tokens.weight" : "lm_head.weight"));
      CHECK(evaluated(run, true) == Approx(evaluated(base, false)).epsilon(1e-6));
      CHECK_THAT(TrainingLab::log(run),
                 contains("weights    from " + base + " at step 6,") && contains(change.log));
    }
    if (world.rank() == 0) CHECK(evaluated(serial, true) == evaluated(base, false));
  }
}

TEST_CASE("a run that started from another run's weights resumes bitwise", "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const std::string base = lab.path("base");
  lab.train_serial({"train.steps=5"}, {.run_directory = base});
  for (const Sets& layout : layouts_of(world.size()))
    for (const Sets& change : {Sets{"mtp.depths=3"}, Sets{"mtp.kind=residual"}, Sets{"mtp.depths=0"}}) {
      INFO(name_of(change) << "on " << name_of(layout));
      const Sets sets = layout + change + Sets{"train.init_from=" + base, "train.steps=8"};
      const std::string whole = lab.path(name_of(change) + name_of(layout)), parts = whole + "parts";
      lab.train(world, sets, {.run_directory = whole});
      CHECK(lab.train(world, sets, {.stop_after = 3, .run_directory = parts}) == ExitCode::resumable);
      CHECK(lab.train(world, sets, {.resume = parts}) == ExitCode::done);
      if (world.rank() != 0) continue;
      CHECK(loss_mismatch(parts, whole, 0) == "");
      for (const char* kind : {"model", "exp_avg", "exp_avg_sq"})
        CHECK(tensor_mismatch(TrainingLab::checkpoint(parts, 8), TrainingLab::checkpoint(whole, 8), kind, 0,
                              0) == "");
    }
}

namespace {

/// Copies a checkpoint's values without the tensor `omitted` and with a further tensor `added`.
void copy_checkpoint(const Checkpoint& from, const std::string& directory, const std::string& omitted,
                     const std::string& added) {
  std::deque<std::vector<float>> memory;
  std::vector<CheckpointPiece> pieces;
  const auto add = [&](const std::string& name, const std::string& source) {
    const Shape shape = from.pieces("model", source).front().shape;
    memory.push_back(values_of(from, source));
    pieces.push_back({.kind = "model",
                      .tensor = name,
                      .shape = shape,
                      .range = {0, shape.elements()},
                      .data = tensor_over(std::span(memory.back()), shape)});
  };
  for (const PieceRecord& piece : from.manifest().pieces)
    if (piece.kind == "model" && piece.range.begin == 0 && piece.tensor != omitted)
      add(piece.tensor, piece.tensor);
  if (!added.empty()) add(added, "model.norm.weight");
  CheckpointWriter writer(directory, 0, 1);
  writer.save(from.info(), pieces, [] {});
  writer.finish();
}

}  // namespace

TEST_CASE("a run does not start from a different main model, and leaves no folder", "[ranks1]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const std::string base = lab.path("base"), run = lab.path("run");
  lab.train(world, {"train.steps=2", "optimizer.warmup_steps=0"}, {.run_directory = base});
  const auto refusal = [&](const Sets& sets, const std::string& from) -> std::string {
    try {
      lab.train(world, sets + Sets{"train.init_from=" + from}, {.run_directory = run});
    } catch (const Error& error) {
      CHECK_FALSE(std::filesystem::exists(run));
      return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
    }
    return "accepted";
  };
  CHECK_THAT(refusal({"model.tie_word_embeddings=true"}, base),
             contains("2: model.tie_word_embeddings: checkpoint ") &&
                 contains("step_00000002 has false, but the new run has true "
                          "(--set model.tie_word_embeddings=true)"));
  CHECK_THAT(refusal({"model.num_hidden_layers=6"}, base),
             contains("model.num_hidden_layers: checkpoint ") && contains(" has 7, but the new run has 6"));
  CHECK_THAT(refusal({"model.num_attention_heads=1", "model.head_dim=16"}, base),
             contains("model.num_attention_heads"));
  CHECK_THAT(
      refusal({"model.intermediate_size=32"}, base),
      contains("2: checkpoint ") &&
          contains("model.layers.0.mlp.gate_proj.weight has shape [24, 16], but the new run has [32, 16]"));
  CHECK_THAT(refusal({"model.vocab_size=300", "mtp.depths=0"}, base),
             contains("model.embed_tokens.weight has shape [257, 16], but the new run has [300, 16]"));
  const std::string tied = lab.path("tied");
  lab.train(world, {"train.steps=1", "optimizer.warmup_steps=0", "model.tie_word_embeddings=true"},
            {.run_directory = tied});
  CHECK_THAT(refusal({}, tied), contains("has true, but the new run has false"));

  const Checkpoint whole = TrainingLab::checkpoint(base, 2);
  copy_checkpoint(whole, lab.path("lacking"), "model.layers.3.mlp.up_proj.weight", "");
  CHECK_THAT(refusal({}, lab.path("lacking")),
             contains("3: checkpoint ") && contains("has no model.layers.3.mlp.up_proj.weight"));
  copy_checkpoint(whole, lab.path("headless"), "model.layers.8.eh_proj.weight", "");
  CHECK_THAT(refusal({}, lab.path("headless")), contains("has no model.layers.8.eh_proj.weight"));
  copy_checkpoint(whole, lab.path("beyond"), "", "model.layers.2.router.weight");
  CHECK_THAT(refusal({}, lab.path("beyond")),
             contains("contains model.layers.2.router.weight, which is not"));
}

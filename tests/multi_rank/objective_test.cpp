// Tests the objective in full training runs. Scheduled, balanced and sampled losses and the diagnostics of
// heads must equal those of the serial run in every layout, and those of an uninterrupted run after a resume.

#include <cmath>
#include <fstream>
#include <set>

#include <nlohmann/json.hpp>

#include "tests/multi_rank/check_resume.h"
#include "tests/support/models/training_lab.h"
#include "tests/support/multi_rank.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

std::vector<Sets> layouts_of(int ranks) {
  if (ranks == 1) return {{"parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b"}};
  if (ranks == 2)
    return {{"parallel.pp=2"},
            {"parallel.pp=2", "parallel.schedule=zero_bubble_h1"},
            {"parallel.pp=2", "mtp.placement=own_stage"},
            {"parallel.pp=2", "parallel.virtual_stages=2", "parallel.schedule=interleaved_1f1b",
             "mtp.placement=stage_per_depth"},
            {"parallel.dp=2", "parallel.sharded_optimizer=true"}};
  return {{"parallel.pp=4"},
          {"parallel.pp=2", "parallel.dp=2"},
          {"parallel.pp=4", "parallel.schedule=zero_bubble_h1", "mtp.placement=stage_per_depth"}};
}

/// Points of the schedules are in tokens; a step has 8 rows of 16 tokens, which is 128 tokens.
const Sets steps{"train.steps=12"};
const Sets scheduled{"mtp.weighting=per_depth", "mtp.depth_weights=0.5,0.2",
                     "mtp.schedule=[[256, 1], [1024, 0.1]]", "mtp.schedule_form=linear"};
/// CE₀ + 0.3 · (1/n) · Σᵢ CEᵢ / (i + 1) over n = 3 heads, of which the main head is i = 0.
const Sets auxiliary{"mtp.weighting=inverse_distance", "mtp.auxiliary_factor=0.1", "mtp.main_weight=1.1"};
const Sets balanced{"mtp.balance=dynamic", "mtp.balance_ratio=0.5", "mtp.diagnose_every=2"};
const Sets sampled{"mtp.balance=sampling", "mtp.sample_probabilities=0.7,0.4", "mtp.diagnose_every=5"};

std::vector<Sets> objectives() {
  return {scheduled,
          auxiliary,
          balanced + Sets{"mtp.main_weight=0.5"},
          balanced + Sets{"mtp.kind=parallel"},
          balanced + Sets{"mtp.trunk_hidden=raw", "model.tie_word_embeddings=true"},
          sampled,
          sampled + Sets{"mtp.kind=parallel"},
          sampled + Sets{"mtp.kind=linear"},
          sampled + Sets{"mtp.trunk_hidden=raw", "mtp.repeat=true"}};
}

using Line = nlohmann::json;
std::vector<Line> lines_of(const std::string& run, const std::string& kind) {
  std::vector<Line> lines;
  std::ifstream file(run + "/metrics.jsonl");
  for (std::string text; std::getline(file, text);)
    if (Line line = Line::parse(text); line["kind"] == kind) lines.push_back(std::move(line));
  return lines;
}

/// The first relative difference above `relative` between the losses and measurements that two runs report.
std::string report_mismatch(const std::string& run, const std::string& expected, double relative,
                            const std::string& kind = "step") {
  const std::vector<Line> actual = lines_of(run, kind), wanted = lines_of(expected, kind);
  if (actual.size() != wanted.size() || actual.empty()) return fmt::format("{} lines", actual.size());
  for (std::size_t i = 0; i < wanted.size(); ++i)
    for (const auto& [key, value] : wanted[i].items()) {
      if (key != "loss" && key != "accepted_length" && !key.starts_with("main_") && !key.starts_with("mtp"))
        continue;
      const Line& other = actual[i].contains(key) ? actual[i][key] : Line("missing");
      const bool numbers = other.is_number() && value.is_number();
      if (numbers
              ? std::abs(other.get<double>() - value.get<double>()) > relative * std::abs(value.get<double>())
              : other != value)
        return fmt::format("line {}, {}: {}, expected {}", i + 1, key, other.dump(), value.dump());
    }
  return {};
}

}  // namespace

TEST_CASE("every objective and diagnosis has the serial run's values, in every layout",
          "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  for (const Sets& objective : objectives()) {
    const std::string serial = lab.path("serial " + name_of(objective));
    lab.train_serial(objective + steps, {.run_directory = serial});
    for (const Sets& layout : layouts_of(world.size())) {
      INFO(name_of(objective) << "on " << name_of(layout));
      const std::string run = lab.path(name_of(objective) + name_of(layout));
      CHECK(lab.train(world, objective + layout + steps, {.run_directory = run}) == ExitCode::done);
      if (world.rank() == 0) CHECK(report_mismatch(run, serial, 1e-4) == "");
    }
  }
}

TEST_CASE("the printed loss of the auxiliary form is the sum over all heads, including the first",
          "[ranks1]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  lab.train(world, auxiliary + steps, {.run_directory = lab.path("run")});
  for (const std::vector<double>& losses : TrainingLab::losses(lab.path("run"))) {
    REQUIRE(losses.size() == 4);
    const double sum = losses[1] + losses[2] / 2 + losses[3] / 3;
    CHECK(losses[0] == Approx(losses[1] + 0.3 / 3 * sum).epsilon(1e-6));
  }
}

TEST_CASE("a run with any objective resumes bitwise, and in another layout with the same losses",
          "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const std::vector<Sets> layouts = layouts_of(world.size()), all = objectives();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Sets sets = all[i] + steps;
    const Sets &layout = layouts[i % layouts.size()], &other = layouts[(i + 1) % layouts.size()];
    INFO(name_of(sets) << "on " << name_of(layout));
    check_resume(lab, world, sets, layout, other, 12, 5, 1e-4,
                 [](const std::string& run, const std::string& expected, double relative) {
                   return report_mismatch(run, expected, relative);
                 });
  }
}

TEST_CASE(
    "loss weights follow their schedule, and balanced weights bring the gradient norms to the set ratio",
    "[ranks1]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  lab.train(world, scheduled + steps, {.run_directory = lab.path("scheduled")});
  const std::vector<Line> lines = lines_of(lab.path("scheduled"), "step");
  for (std::size_t i = 0; i < lines.size(); ++i) {
    // The factor is 1 up to 256 tokens, 0.1 from 1024 tokens on, and linear between them. A step uses the
    // factor for the number of tokens before the step.
    const double factor =
        1 - 0.9 * std::min(1.0, std::max(0.0, (128.0 * static_cast<double>(i) - 256) / 768));
    CHECK(lines[i]["mtp1_weight"].get<double>() == Approx(0.5 * factor));
    CHECK(lines[i]["mtp2_weight"].get<double>() == Approx(0.2 * factor));
    CHECK(lines[i]["loss"].get<double>() ==
          Approx(lines[i]["main_loss"].get<double>() + 0.5 * factor * lines[i]["mtp1_loss"].get<double>() +
                 0.2 * factor * lines[i]["mtp2_loss"].get<double>()));
  }

  lab.train(world, balanced + Sets{"train.steps=60"}, {.run_directory = lab.path("balanced")});
  const std::vector<Line> moving = lines_of(lab.path("balanced"), "step");
  const auto ratio = [&](const Line& line, const char* depth) {
    return line[fmt::format("{}_trunk_norm", depth)].get<double>() / line["main_trunk_norm"].get<double>();
  };
  for (const char* depth : {"mtp1", "mtp2"}) {
    double late = 0;
    for (std::size_t step = 40; step <= 60; step += 2) late += std::log(ratio(moving[step - 1], depth)) / 11;
    CHECK(std::exp(late) == Approx(0.5).epsilon(0.1));
    CHECK(std::abs(std::log(ratio(moving[1], depth) / 0.5)) > 0.5);  // the ratio is not 0.5 at the start
  }
  CHECK_FALSE(moving[0].contains("main_trunk_norm"));
  CHECK(TrainingLab::checkpoint(lab.path("balanced"), 60).info().balance.size() == 2);
}

TEST_CASE("diagnosis does not change a bit of training", "[ranks1]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  for (const Sets& kind :
       std::vector<Sets>{{"mtp.depths=2"}, {"mtp.kind=parallel"}, {"mtp.detach_heads=true"}}) {
    INFO(name_of(kind));
    const std::string plain = lab.path(name_of(kind) + "plain"),
                      watched = lab.path(name_of(kind) + "watched");
    lab.train(world, kind + steps, {.run_directory = plain});
    lab.train(world, kind + steps + Sets{"mtp.diagnose_every=1"}, {.run_directory = watched});
    CHECK(tensor_mismatch(TrainingLab::checkpoint(watched, 12), TrainingLab::checkpoint(plain, 12), "model",
                          0, 0) == "");
    const Line line = lines_of(watched, "step").back();
    CHECK(line.contains("mtp2_acceptance"));
    CHECK(line.contains("mtp1_trunk_cosine") == (kind.front() != "mtp.detach_heads=true"));
  }
}

TEST_CASE("diagnosis does not change a bit of training or metrics with sampled depths", "[ranks1][ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets drawn{"mtp.balance=sampling", "mtp.sample_probabilities=0.75,0.5"};
  for (const Sets& layout : layouts_of(world.size())) {
    INFO(name_of(layout));
    const std::string plain = lab.path(name_of(layout) + "plain"),
                      watched = lab.path(name_of(layout) + "watched");
    lab.train(world, drawn + layout + steps, {.run_directory = plain});
    lab.train(world, drawn + layout + steps + Sets{"mtp.diagnose_every=3"}, {.run_directory = watched});
    if (world.rank() != 0) continue;
    CHECK(loss_mismatch(watched, plain, 0) == "");
    for (const char* kind : {"model", "exp_avg", "exp_avg_sq"})
      CHECK(tensor_mismatch(TrainingLab::checkpoint(watched, 12), TrainingLab::checkpoint(plain, 12), kind, 0,
                            0) == "");
    const std::vector<Line> lines = lines_of(watched, "step");
    CHECK_FALSE(lines[1].contains("mtp2_acceptance"));
    for (const char* measured : {"mtp2_acceptance", "mtp2_trunk_norm", "mtp1_trunk_cosine"})
      CHECK(lines[2][measured].is_number());
  }
}

TEST_CASE("the objective weights a sampled depth by the inverse of its probability", "[ranks1]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  // A step has one microbatch, so a depth is either drawn for the whole step or not at all.
  const Sets sets{"train.microbatch=8", "mtp.balance=sampling", "mtp.sample_probabilities=0.75,0.5"};
  lab.train(world, sets, {.run_directory = lab.path("drawn")});
  std::set<int> drawn_depths;
  for (const Line& line : lines_of(lab.path("drawn"), "step")) {
    double expected = line["main_loss"];
    int depths = 0;
    for (const auto& [depth, probability] : {std::pair{"mtp1", 0.75}, std::pair{"mtp2", 0.5}}) {
      const Line& loss = line[fmt::format("{}_loss", depth)];
      if (loss.is_null()) continue;
      ++depths;
      expected += line[fmt::format("{}_weight", depth)].get<double>() / probability * loss.get<double>();
    }
    CHECK(line["loss"].get<double>() == Approx(expected).epsilon(1e-12));
    drawn_depths.insert(depths);
  }
  CHECK(drawn_depths == std::set{0, 1, 2});
}

TEST_CASE(
    "a sampled depth's gradient is divided by its probability, and its loss is the mean over its samples",
    "[ranks1]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets one_step{"train.steps=1", "optimizer.warmup_steps=0", "optimizer.clip=0"};
  const Sets drawn{"mtp.balance=sampling", "mtp.sample_probabilities=0.75,0.5"};
  lab.train(world, one_step, {.run_directory = lab.path("all")});
  lab.train(world, one_step + drawn, {.run_directory = lab.path("eight")});
  const Line all = lines_of(lab.path("all"), "step").front(),
             eight = lines_of(lab.path("eight"), "step").front();
  CHECK(eight["main_loss"] == all["main_loss"]);
  CHECK(eight["mtp1_loss"].get<double>() == Approx(all["mtp1_loss"].get<double>()).epsilon(0.05));
  CHECK(eight["mtp1_loss"] != all["mtp1_loss"]);

  // A step has one microbatch, so depth 2 is either drawn for the whole step or not at all. The first moment
  // is (1 − β₁) · gradient.
  const auto moment = [&](const std::string& run) {
    const Checkpoint checkpoint = TrainingLab::checkpoint(run, 1);
    const std::string name = "model.layers.8.mlp.up_proj.weight";
    const PieceRecord& piece = checkpoint.pieces("exp_avg", name).front();
    std::vector<float> values(static_cast<std::size_t>(piece.shape.elements()));
    checkpoint.read("exp_avg", name, {0, piece.shape.elements()},
                    tensor_over(std::span(values), piece.shape));
    return values;
  };
  int with = 0, without = 0;
  for (int seed = 1; seed <= 8; ++seed) {
    const Sets sets = one_step + Sets{"train.microbatch=8", fmt::format("train.seed={}", seed)};
    const std::string plain = lab.path(fmt::format("plain {}", seed)),
                      some = lab.path(fmt::format("some {}", seed));
    lab.train(world, sets, {.run_directory = plain});
    lab.train(world, sets + drawn, {.run_directory = some});
    const bool trained = !lines_of(some, "step").front()["mtp2_loss"].is_null();
    ++(trained ? with : without);
    const std::vector<float> full = moment(plain), actual = moment(some);
    double error = 0, size = 0;
    for (std::size_t i = 0; i < full.size(); ++i) {
      error = std::max(error, std::abs(actual[i] - (trained ? 1 / 0.5 : 0.0) * full[i]));
      size = std::max(size, std::abs(static_cast<double>(full[i])));
    }
    CHECK(error <= 1e-5 * size);
  }
  CHECK(with > 0);
  CHECK(without > 0);
}

TEST_CASE("evaluations report the acceptance of the serial run, in every layout",
          "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const Sets sets{"data.validation_path=" + lab.path("data.h5"), "train.evaluate_every=20",
                  "train.evaluate_rows=21", "train.steps=40", "optimizer.lr=1e-2"};
  lab.train_serial(sets, {.run_directory = lab.path("serial")});
  for (const Sets& layout : layouts_of(world.size())) {
    INFO(name_of(layout));
    const std::string run = lab.path("run " + name_of(layout));
    lab.train(world, sets + layout, {.run_directory = run});
    if (world.rank() != 0) continue;
    CHECK(report_mismatch(run, lab.path("serial"), 1e-4, "evaluation") == "");
    const Line line = lines_of(run, "evaluation").back();
    const double first = line["mtp1_acceptance"], second = line["mtp2_acceptance"];
    CHECK(first > 0);
    CHECK(first < 1);
    CHECK(line["accepted_length"].get<double>() == Approx(1 + first + second));
  }
}

// Tests numerical failures in a run: gradients and losses that are not finite, and bits of memory that change
// without a write.

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <thread>

#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "tests/support/models/training_lab.h"
#include "tests/support/multi_rank.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

std::vector<Sets> layouts_of(int ranks) {
  if (ranks == 1) return {{}};
  if (ranks == 2)
    return {{"parallel.pp=2"}, {"parallel.dp=2"}, {"parallel.dp=2", "parallel.sharded_optimizer=true"}};
  return {{"parallel.pp=2", "parallel.dp=2", "parallel.sharded_optimizer=true"}};
}

bool is_last_rank() {
  return multi_rank::world().rank() == multi_rank::world().size() - 1;
}

/// The gradient of the first element that this rank saves. No other rank saves that element.
float& own_gradient(Session& session, const Optimizer& optimizer) {
  const StatePiece piece = optimizer.state().pieces_to_save().front();
  return session.model().parameters().gradient(piece.spec->name).as<float>()[piece.range.begin];
}

using Bytes = std::vector<unsigned char>;
Bytes state_of(const Optimizer& optimizer) {
  Bytes bytes;
  for (const StatePiece& piece : optimizer.state().pieces_to_load()) {
    const auto* data = static_cast<const unsigned char*>(piece.data.data);
    bytes.insert(bytes.end(), data, data + piece.data.bytes());
  }
  return bytes;
}

std::vector<nlohmann::json> steps_of(const std::string& run) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(run + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);)
    if (nlohmann::json object = nlohmann::json::parse(line); object["kind"] == "step")
      lines.push_back(object);
  return lines;
}

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const NumericalError& error) {
    return error.what();
  }
  return "no NumericalError";
}

}  // namespace

TEST_CASE(
    "a step with a number that is not finite on one rank changes no bit on any, and the run resumes bitwise",
    "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const bool of_loss = GENERATE(false, true);
  INFO((of_loss ? "loss" : "gradient"));
  const TrainingLab lab(world);
  for (const Sets& layout : layouts_of(world.size())) {
    INFO(name_of(layout));
    const Sets sets = layout + Sets{"train.steps=12", "mtp.balance=dynamic", "mtp.diagnose_every=1"};
    Bytes before;
    const TrainingHooks hooks{.gradients_final =
                                  [&](std::int64_t step, Session& session, Optimizer& optimizer) {
                                    before = state_of(optimizer);
                                    if ((step != 4 && step != 5 && step != 8) || !is_last_rank()) return;
                                    if (of_loss)
                                      session.model().sums().losses.as<double>()[1] = not_a_number;
                                    else
                                      own_gradient(session, optimizer) = not_a_number;
                                  },
                              .updated =
                                  [&](std::int64_t step, Session&, Optimizer& optimizer) {
                                    const bool skipped = step == 4 || step == 5 || step == 8;
                                    CHECK((state_of(optimizer) == before) == skipped);
                                  }};
    const std::string whole = lab.path(name_of(layout) + "whole"),
                      parts = lab.path(name_of(layout) + "parts");
    CHECK(lab.train(world, sets, {.run_directory = whole}, hooks) == ExitCode::done);
    CHECK(lab.train(world, sets, {.stop_after = 4, .run_directory = parts}, hooks) == ExitCode::resumable);
    CHECK(lab.train(world, sets, {.resume = parts, .stop_after = 7}, hooks) == ExitCode::resumable);
    CHECK(lab.train(world, sets, {.resume = parts}, hooks) == ExitCode::done);
    if (world.rank() != 0) continue;
    for (const char* kind : {"model", "exp_avg", "exp_avg_sq"})
      CHECK(tensor_mismatch(TrainingLab::checkpoint(parts, 12), TrainingLab::checkpoint(whole, 12), kind, 0,
                            0) == "");
    CHECK(TrainingLab::checkpoint(parts, 12).info().balance ==
          TrainingLab::checkpoint(whole, 12).info().balance);
    CHECK(TrainingLab::checkpoint(parts, 12).info().skipped == 3);
    const auto lines = steps_of(parts);
    for (std::size_t step = 1; step <= lines.size(); ++step)
      CHECK(lines[step - 1].contains("skipped") == (step == 4 || step == 5 || step == 8));
    CHECK(lines[4]["mtp1_weight"] == lines[3]["mtp1_weight"]);
    CHECK(lines[5]["mtp1_weight"] == lines[3]["mtp1_weight"]);
    const std::string log = TrainingLab::log(parts);
    CHECK_THAT(log, contains(fmt::format("not finite: rank {} (", world.size() - 1)));
    CHECK_THAT(log, contains(of_loss ? "mtp1 loss" : "gradient of "));
    CHECK_THAT(log, contains("(2 in a row, 2 in all)"));
  }
}

TEST_CASE("more skipped steps in a row than allowed end the run, and the checkpoint before them is kept",
          "[ranks1][ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const int limit = GENERATE(0, 2);
  const TrainingLab lab(world);
  const std::string run = lab.path("run");
  const TrainingHooks hooks{.gradients_final =
                                [&](std::int64_t step, Session& session, Optimizer& optimizer) {
                                  if (step >= 4) own_gradient(session, optimizer) = not_a_number;
                                },
                            .updated = {}};
  const std::string message = message_of([&] {
    lab.train(world, {fmt::format("train.skip_limit={}", limit), "checkpoint.every=1", "checkpoint.keep=1"},
              {.run_directory = run}, hooks);
  });
  CHECK_THAT(message, contains(fmt::format("step {}: ", 4 + limit)) &&
                          contains(fmt::format("train.skip_limit is {}", limit)) && contains("gradient of "));
  if (world.rank() == 0) {
    CHECK(TrainingLab::checkpoint(run, 3).verify().empty());
    CHECK_FALSE(std::filesystem::exists(run + "/checkpoints/step_00000004"));
  }
  CHECK(lab.train(world, {"train.steps=20"}, {.resume = run}) == ExitCode::done);
}

TEST_CASE("a flipped bit of state stops the run naming tensor and rank, in every layout",
          "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const auto [kind, every] =
      GENERATE(table<std::string, int>({{"model", 1}, {"model", 3}, {"exp_avg", 3}, {"exp_avg_sq", 1}}));
  const TrainingLab lab(world);
  for (const Sets& layout : layouts_of(world.size())) {
    INFO(kind << " every " << every << " " << name_of(layout));
    const std::string run = lab.path(name_of(layout) + "run");
    std::string flipped;
    const TrainingHooks hooks{.gradients_final = {},
                              .updated = [&](std::int64_t step, Session&, Optimizer& optimizer) {
                                if (step != 9 || !is_last_rank()) return;
                                for (const StatePiece& piece : optimizer.state().pieces_to_save())
                                  if (piece.kind == kind) {
                                    flipped = describe(piece);
                                    static_cast<unsigned char*>(piece.data.data)[5] ^= 0x04;
                                    return;
                                  }
                              }};
    const std::string message = message_of([&] {
      lab.train(world,
                layout + Sets{fmt::format("parallel.check_state_every={}", every), "checkpoint.every=4",
                              "checkpoint.keep=9"},
                {.run_directory = run}, hooks);
    });
    CHECK_THAT(message, contains(fmt::format("rank {} (", world.size() - 1)) &&
                            contains("the update of step 9") &&
                            contains(fmt::format("last verified after step {}", every == 1 ? 8 : 6)));
    if (is_last_rank()) CHECK_THAT(message, contains(flipped + " has changed"));
    if (world.rank() != 0) continue;
    CHECK(TrainingLab::checkpoint(run, 4).info().suspect.empty());
    CHECK(TrainingLab::checkpoint(run, 8).info().suspect == (every == 1 ? "" : message));
  }
}

TEST_CASE("a bit that flips between a save and the next update is found, and the save stays valid",
          "[ranks1]") {
  const TrainingLab lab(multi_rank::world());
  const std::string run = lab.path("run");
  const TrainingHooks hooks{.gradients_final =
                                [&](std::int64_t step, Session&, Optimizer& optimizer) {
                                  const StatePiece piece = optimizer.state().pieces_to_save().front();
                                  if (step == 5) static_cast<unsigned char*>(piece.data.data)[0] ^= 1;
                                },
                            .updated = {}};
  const std::string message = message_of([&] {
    lab.train(multi_rank::world(), {"parallel.check_state_every=1", "checkpoint.every=1"},
              {.run_directory = run}, hooks);
  });
  CHECK_THAT(message, contains("since the update of step 4") && contains("last verified after step 4"));
  CHECK(TrainingLab::checkpoint(run, 4).info().suspect.empty());
}

TEST_CASE(
    "a run resumes from its newest checkpoint that is not suspect, and from a suspect one if its path is "
    "given",
    "[ranks1]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const std::string run = lab.path("run"), suspect = run + "/checkpoints/step_00000008";
  lab.train(world, {"checkpoint.every=4", "checkpoint.keep=9"}, {.stop_after = 8, .run_directory = run});
  mark_suspect(suspect, "a reason");
  CHECK(TrainingLab::checkpoint(run, 8).verify().empty());
  const bool named = GENERATE(false, true);
  lab.train(world, {"train.steps=9"}, {.resume = named ? suspect : run});
  const std::string log = TrainingLab::log(run);
  CHECK_THAT(log, contains(suspect + " is marked suspect: a reason"));
  CHECK((log.find("it is skipped") == std::string::npos) == named);
  CHECK_THAT(log, contains(fmt::format("resume     step {} of 9", named ? 8 : 4)));
}

TEST_CASE("a run whose checkpoints are all suspect resumes from the newest and warns", "[ranks1]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const std::string run = lab.path("run");
  lab.train(world, {}, {.stop_after = 4, .run_directory = run});
  mark_suspect(run + "/checkpoints/step_00000004", "a reason");
  lab.train(world, {"train.steps=5"}, {.resume = run});
  CHECK_THAT(TrainingLab::log(run), contains("is marked suspect: a reason"));
}

TEST_CASE("a state with a number that is not finite or with different replicas is not saved", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const std::string fault = GENERATE("infinite moment", "infinite weight", "flipped replica");
  INFO(fault);
  const TrainingLab lab(world);
  const std::string run = lab.path("run");
  std::string tensor;
  const TrainingHooks hooks{
      .gradients_final = {}, .updated = [&](std::int64_t step, Session& session, Optimizer& optimizer) {
        if (step != 8 || world.rank() != 1) return;
        const std::vector<StatePiece> pieces = optimizer.state().pieces_to_save();
        const auto piece = std::find_if(pieces.begin(), pieces.end(), [&](const auto& each) {
          return each.kind == (fault == "infinite moment" ? "exp_avg_sq" : "model");
        });
        tensor = describe(*piece);
        float& value = fault == "flipped replica"
                           ? session.model().parameters().value(piece->spec->name).as<float>()[0]
                           : piece->data.as<float>()[0];
        value = fault == "flipped replica" ? value + 1 : std::numeric_limits<float>::infinity();
      }};
  const std::string message = message_of([&] {
    lab.train(world,
              {"parallel.dp=2", "parallel.check_state_every=0", "checkpoint.every=4", "checkpoint.keep=1"},
              {.run_directory = run}, hooks);
  });
  if (world.rank() == 1) CHECK_THAT(message, contains(tensor));
  CHECK_THAT(message, contains("rank 1"));
  if (world.rank() != 0) return;
  CHECK(TrainingLab::checkpoint(run, 4).verify().empty());
  CHECK_FALSE(std::filesystem::exists(run + "/checkpoints/step_00000008"));
}

TEST_CASE("no kind of save publishes a state that is not finite", "[ranks1]") {
  const TrainingLab lab(multi_rank::world());
  struct Way {
    std::string name;
    Sets sets;
    std::int64_t stop_after = -1;
    int step_milliseconds = 0;
  };
  const Way way = GENERATE(Way{"by steps", {"checkpoint.every=8"}},
                           Way{"by time", {"checkpoint.every_minutes=1e-6"}, -1, 500},
                           Way{"the last step", {"train.steps=8"}}, Way{"a stop", {}, 8},
                           Way{"a copy for a stop in the middle of a step", {}, -1, 300});
  INFO(way.name);
  const std::string run = lab.path("run");
  const TrainingHooks hooks{.gradients_final = {},
                            .updated = [&](std::int64_t step, Session&, Optimizer& optimizer) {
                              if (step != 8) return;
                              optimizer.state().pieces_to_save().back().data.as<float>()[0] =
                                  std::numeric_limits<float>::infinity();
                              std::this_thread::sleep_for(std::chrono::milliseconds(way.step_milliseconds));
                            }};
  const std::string message = message_of([&] {
    lab.train(multi_rank::world(), Sets{"parallel.check_state_every=0"} + way.sets,
              {.stop_after = way.stop_after, .run_directory = run}, hooks);
  });
  // With saves at time intervals the previous save may still be in progress; the error is then thrown at a
  // later step.
  CHECK_THAT(message, contains(way.name == "by time" ? "is not saved" : "checkpoint: step 8 is not saved") &&
                          contains(": exp_avg_sq of ") && contains("is not finite on rank 0 (pp0 dp0)"));
  CHECK_FALSE(std::filesystem::exists(run + "/checkpoints/step_00000008"));
}

TEST_CASE("a replayed step separates a transient fault, whose second result is used, from a reproducible one",
          "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const std::string fault = GENERATE("nan", "outlier", "real");
  for (const Sets& layout : layouts_of(world.size())) {
    INFO(fault << " " << name_of(layout));
    const Sets sets = layout + Sets{"train.steps=30", "train.replay_suspicious=true"};
    const std::string run = lab.path(name_of(layout) + "run"), whole = lab.path(name_of(layout) + "whole");
    std::map<std::int64_t, int> passes;
    const TrainingHooks hooks{
        .gradients_final =
            [&](std::int64_t step, Session& session, Optimizer& optimizer) {
              if (step != 25 || (++passes[step] == 2 && fault != "real") || !is_last_rank()) return;
              own_gradient(session, optimizer) = fault == "outlier" ? 1e4F : not_a_number;
            },
        .updated = {}};
    CHECK(lab.train(world, sets, {.run_directory = whole}) == ExitCode::done);
    CHECK(lab.train(world, sets, {.run_directory = run}, hooks) == ExitCode::done);
    CHECK(passes[25] == 2);
    if (world.rank() != 0) continue;
    const std::string log = TrainingLab::log(run);
    if (fault == "real") {
      CHECK_THAT(log, contains("not a transient hardware fault") && contains("skipped    step 25"));
      continue;
    }
    CHECK_THAT(log, contains(fmt::format("a transient hardware fault: rank {} (", world.size() - 1)));
    CHECK(loss_mismatch(run, whole, 0) == "");
    CHECK(tensor_mismatch(TrainingLab::checkpoint(run, 30), TrainingLab::checkpoint(whole, 30), "model", 0,
                          0) == "");
    const std::size_t last = log.rfind("step 30/30 ");
    CHECK_THAT(log.substr(last, log.find('\n', last) - last), contains("  z ") && !contains("skipped"));
  }
}

TEST_CASE("a bit of state that flips while a step is replayed is found before the step's update",
          "[ranks1][ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  int passes = 0;
  const TrainingHooks hooks{
      .gradients_final =
          [&](std::int64_t step, Session& session, Optimizer& optimizer) {
            if (step != 25 || !is_last_rank()) return;
            if (++passes == 1)
              own_gradient(session, optimizer) = not_a_number;
            else
              static_cast<unsigned char*>(optimizer.state().pieces_to_save().back().data.data)[5] ^= 0x04;
          },
      .updated = {}};
  const Sets layout = world.size() == 1 ? Sets{} : Sets{"parallel.dp=2", "parallel.sharded_optimizer=true"};
  const std::string message = message_of([&] {
    lab.train(world,
              layout + Sets{"train.steps=30", "train.replay_suspicious=true", "parallel.check_state_every=1"},
              {.run_directory = lab.path("run")}, hooks);
  });
  CHECK_THAT(message, contains("exp_avg_sq of ") && contains("the update of step 24") &&
                          contains(fmt::format("has changed on rank {} (", world.size() - 1)));
}

TEST_CASE("a resumed run uses another train.seed only if --set requests it", "[ranks1]") {
  MpiCommunicator& world = multi_rank::world();
  const TrainingLab lab(world);
  const std::string run = lab.path("run");
  lab.train(world, {}, {.stop_after = 4, .run_directory = run});
  CHECK(lab.train(world, {"train.seed=7"}, {.resume = run, .stop_after = 6}) == ExitCode::resumable);
  CHECK_THAT(TrainingLab::log(run), contains("train.seed") && contains("another order"));
  CHECK(TrainingLab::checkpoint(run, 6).info().seed == 7);
}

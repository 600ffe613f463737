#include "tests/support/models/training_lab.h"

#include <cmath>
#include <cstring>
#include <fstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "io/checkpoint/checkpoint_directory.h"
#include "io/datasets/token_dataset_writer.h"
#include "io/tokenizers/tokenizer.h"
#include "launch/config/config_loader.h"
#include "launch/config/config_validator.h"
#include "launch/session/agreement.h"
#include "launch/training/training.h"
#include "runtime/error.h"
#include "runtime/random.h"
#include "tests/support/numeric.h"

namespace foretoken::testing {

namespace {

/// Writes documents of different lengths, with enough regularity that a model can learn it.
void write_dataset(const std::string& path, int documents) {
  const auto tokenizer = make_tokenizer("bytes");
  TokenDatasetWriter writer(path, tokenizer->identity());
  const CounterRng rng(3, "lab text");
  for (int d = 0; d < documents; ++d) {
    std::vector<std::int32_t> ids;
    const std::uint64_t length = 5 + rng.u64(static_cast<std::uint64_t>(d)) % 90;
    for (std::uint64_t i = 0; i < length; ++i)
      ids.push_back(static_cast<std::int32_t>('a' + (i * i + rng.u64(1000 + i) % 3) % 20));
    writer.append(ids);
    writer.end_document();
  }
  writer.finish();
  writer.publish();
}

}  // namespace

Sets operator+(Sets a, const Sets& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::string name_of(const Sets& sets) {
  std::string name;
  for (const std::string& set : sets) name += set.substr(set.find('.') + 1) + " ";
  return name;
}

TrainingLab::TrainingLab(MpiCommunicator& world, int documents) : world_(world) {
  if (world.rank() == 0) {
    owned_ = std::make_unique<TemporaryFolder>();
    write_dataset((*owned_ / "data.h5").string(), documents);
    folder_ = owned_->path().string();
  }
  folder_ = broadcast_text(world, folder_);
}

Config TrainingLab::config(const Sets& sets) const {
  Config config;
  config.model = {.hidden_size = 16,
                  .num_hidden_layers = 7,
                  .num_attention_heads = 2,
                  .num_key_value_heads = 1,
                  .head_dim = 8,
                  .intermediate_size = 24,
                  .vocab_size = 257,
                  .initializer_range = 0.1};
  config.mtp.depths = 2;
  config.data.path = path("data.h5");
  config.data.sequence_length = 16;
  config.train.steps = 50;
  config.train.global_batch = 8;
  config.train.microbatch = 1;
  config.optimizer.lr = 3e-3;
  config.optimizer.warmup_steps = 5;
  config.parallel.threads = 1;
  config.parallel.check_replicas_every = 10;
  apply_sets(config, sets);
  validate(config);
  return config;
}

ExitCode TrainingLab::train(MpiCommunicator& ranks, const Sets& sets, const TrainArguments& arguments,
                            const TrainingHooks& hooks) const {
  Console console(ranks.rank() == 0);
  StopNotice notice(console, ranks.rank());
  RunFolder folder(ranks, arguments, console);
  const Config settings = config(sets);
  return Training(open_training(ranks, settings, arguments, folder, console, notice),
                  checkpoint_rules(settings, arguments), hooks)
      .run();
}

ExitCode TrainingLab::train_serial(const Sets& sets, const TrainArguments& arguments) const {
  ExitCode code = ExitCode::done;
  const auto alone = world_.split(world_.rank() == 0 ? 0 : -1, 0, "rank 0 alone");
  if (alone) code = train(*alone, sets, arguments);
  world_.barrier();
  return code;
}

std::vector<std::vector<double>> TrainingLab::losses(const std::string& run) {
  std::vector<std::vector<double>> result;
  std::ifstream file(run + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto metrics = nlohmann::json::parse(line);
    if (metrics["kind"] != "step") continue;
    if (metrics["step"] != result.size() + 1) throw DefectError("test: {}: step {} out of order", run, line);
    result.push_back({metrics["loss"], metrics["main_loss"]});
    for (int k = 1; metrics.contains(fmt::format("mtp{}_loss", k)); ++k)
      result.back().push_back(metrics[fmt::format("mtp{}_loss", k)]);
  }
  return result;
}

std::string TrainingLab::log(const std::string& run) {
  std::ifstream log(run + "/log.txt");
  return {std::istreambuf_iterator<char>(log), {}};
}

Checkpoint TrainingLab::checkpoint(const std::string& run, std::int64_t step) {
  return Checkpoint::open(run + "/checkpoints/" + checkpoint_name(step));
}

std::string loss_mismatch(const std::string& run, const std::string& expected_run, double relative) {
  const auto actual = TrainingLab::losses(run), expected = TrainingLab::losses(expected_run);
  if (actual.size() != expected.size() || actual.empty())
    return fmt::format("{} steps, expected {}", actual.size(), expected.size());
  for (std::size_t step = 0; step < actual.size(); ++step) {
    if (actual[step].size() != expected[step].size())
      return fmt::format("step {}: a different number of losses", step + 1);
    for (std::size_t k = 0; k < actual[step].size(); ++k)
      if (!(std::abs(actual[step][k] - expected[step][k]) <= relative * std::abs(expected[step][k])))
        return fmt::format("step {}, loss {}: {}, expected {}", step + 1, k, actual[step][k],
                           expected[step][k]);
  }
  return {};
}

std::string tensor_mismatch(const Checkpoint& actual, const Checkpoint& expected, const std::string& kind,
                            double relative, double absolute) {
  std::size_t compared = 0;
  for (const PieceRecord& piece : expected.manifest().pieces) {
    if (piece.kind != kind || piece.range.begin != 0) continue;
    Arena arena(DeviceKind::cpu);
    const Tensor a = arena.tensor(piece.dtype, piece.shape), e = arena.tensor(piece.dtype, piece.shape);
    actual.read(kind, piece.tensor, {0, piece.shape.elements()}, a);
    expected.read(kind, piece.tensor, {0, piece.shape.elements()}, e);
    ++compared;
    const bool bitwise = relative == 0 && absolute == 0;
    if (bitwise ? std::memcmp(a.data, e.data, a.bytes()) == 0 : mismatch(a, e, relative, absolute).empty())
      continue;
    return fmt::format("{}: {}", piece.tensor, mismatch(a, e, relative, absolute));
  }
  return compared == 0 ? fmt::format("no tensor of kind {}", kind) : "";
}

}  // namespace foretoken::testing

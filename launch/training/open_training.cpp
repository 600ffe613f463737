// Brings a training run to its next step: data, model, state, folder.
#include <limits>

#include <fmt/format.h>

#include "launch/config/config_loader.h"
#include "launch/config/config_validator.h"
#include "launch/config/learning_schedule.h"
#include "launch/console/terminal.h"
#include "launch/doctor/machine_record.h"
#include "launch/session/data_identity.h"
#include "launch/session/rank_memory.h"
#include "launch/session/resume.h"
#include "launch/session/transfer.h"
#include "launch/training/checkpoint_policy.h"
#include "launch/training/run_profile.h"
#include "launch/training/startup_table.h"
#include "launch/training/training_parts.h"
#include "runtime/backend.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

constexpr int label_width = 11;

/// Prints "label      text", wrapped at the terminal's width.
void show(Console& console, const std::string& text) {
  console.line(text, wrapped(text, console.columns().value_or(80) - 1, label_width));
}

void show_plan(Console& console, MpiCommunicator& world, const SessionPlan& plan) {
  if (world.rank() != 0) return;
  const auto table = [&](int columns) {
    std::string text = startup_table(plan, columns);
    text.pop_back();
    return text;
  };
  constexpr int unlimited = std::numeric_limits<int>::max();
  const std::optional<int> columns = console.columns();
  const std::string text = table(unlimited);
  console.line(text, columns ? table(*columns - 1) : text);
}

void show_run(TrainingParts& parts, const CheckpointRules& rules) {
  const int ranks = parts.world.size(), threads = parts.session.stream().threads().threads();
  show(parts.console,
       fmt::format("device     {}; {}{} with {}", device_text(parts.session), counted(ranks, "rank"),
                   ranks == 1 ? "" : ", each", counted(threads, "thread")));
  show(parts.console, "run        " + parts.files->directory.path());
  show(parts.console, "stop       " + stop_help(rules));
}

void start_fresh(TrainingParts& parts, RunFolder& folder, StopNotice& notice, const CheckpointRules& rules) {
  const Config& config = parts.config();
  Parameters& parameters = parts.session.model().parameters();
  parameters.initialize(parts.session.stream(), config.train.seed);
  std::string transferred;  // before the folder is created: if the transfer is refused, no folder is left
  if (!config.train.init_from.empty())
    transferred = transfer_weights(config.train.init_from, config, parts.data->training.tokenizer(),
                                   parameters, parts.session.stream(), parts.world, parts.console);
  folder.start(config);
  parts.files =
      std::make_unique<RunFiles>(parts.world, config, parts.progress.step, folder, parts.console, notice);
  show_run(parts, rules);
  if (!transferred.empty()) parts.console.line(transferred);
}

/// Only a --set on the command line may change the seed, and so the order of the data.
void require_same_seed(const Config& config, const CheckpointInfo& info, Console& console) {
  if (info.seed == config.train.seed) return;
  const std::string change =
      fmt::format("train.seed: the checkpoint has {}, this run has {}", info.seed, config.train.seed);
  const auto origin = config.origins.find("train.seed");
  if (origin == config.origins.end() || !origin->second.starts_with("--set"))
    throw UsageError("{}; use --set train.seed={} to change it", change, config.train.seed);
  console.warn(
      fmt::format("{}: from sample {} on, rows and sampled depths have another order", change, info.samples));
}

void resume(TrainingParts& parts, RunFolder& folder, StopNotice& notice, const CheckpointRules& rules,
            bool allow_other_data) {
  const Config& config = parts.config();
  Session& session = parts.session;
  const Checkpoint checkpoint =
      load_checkpoint(folder.resume(), config, parts.data->training.tokenizer(),
                      parts.optimizer.state().pieces_to_load(), session.stream(), parts.world, parts.console);
  const CheckpointInfo& info = checkpoint.info();
  require_same_data(info, parts.data->training, parts.data->validation ? &*parts.data->validation : nullptr,
                    allow_other_data, parts.console);
  session.model().parameters().round_weights(session.stream());
  parts.progress = {
      .step = info.step, .samples = info.samples, .tokens = info.tokens, .saved_step = info.step};
  restore_objective(session.objective(), info, config);
  parts.guard.restore(info.skipped, info.skipped_in_a_row);
  require_same_seed(config, info, parts.console);
  folder.continue_from(checkpoint, config);
  parts.files =
      std::make_unique<RunFiles>(parts.world, config, parts.progress.step, folder, parts.console, notice);
  show_run(parts, rules);
  for (const std::string& text : resume_warnings(settings_of(checkpoint), config, info.step))
    parts.console.warn(text);
  show(parts.console, fmt::format("resume     step {} of {}, {} tokens seen, written by layout {}", info.step,
                                  config.train.steps, info.tokens, to_string(info.grid)));
}

}  // namespace

TrainingData::TrainingData(const Config& config, MpiCommunicator& world, Console& console)
    : training(config.data.path) {
  validate_vocabulary(config, training.tokenizer().vocab_size, training.path().string());
  require_same_on_all_ranks(training, world, console);
  if (config.data.validation_path.empty()) return;
  validation.emplace(config.data.validation_path);
  validation->require_tokenizer(training.tokenizer());
  require_same_on_all_ranks(*validation, world, console);
}

TrainingParts::TrainingParts(MpiCommunicator& ranks, SessionPlan session_plan,
                             std::unique_ptr<TrainingData> opened, Console& lines)
    : world(ranks),
      console(lines),
      data(std::move(opened)),
      session(world, std::move(session_plan)),
      arena(session.stream().device()),
      shards(plan_shards(session.plan(), session.model().parameters(), session.groups().dp_rank)),
      reducer(session.model().parameters(), shards, *session.groups().dp),
      shared(session.model().parameters(), shards, reducer, session.groups()),
      optimizer(arena, session.model().parameters(), shards, optimizer_config(config().optimizer),
                *session.groups().dp, *session.groups().device_world),
      guard(arena, session, optimizer, shards, console),
      pass(session, reducer, shared) {
  arena.seal();
  if (data->validation) validation.emplace(session, *data->validation, config().train.evaluate_rows);
}

CheckpointRules checkpoint_rules(const Config& config, const TrainArguments& arguments) {
  return {.every_steps = config.checkpoint.every,
          .every = std::chrono::duration<double>(60 * config.checkpoint.every_minutes),
          .last_step = config.train.steps,
          .stop_after = arguments.stop_after};
}

std::unique_ptr<TrainingParts> open_training(MpiCommunicator& world, const Config& config,
                                             const TrainArguments& arguments, RunFolder& folder,
                                             Console& console, StopNotice& notice) {
  validate(schedule_of(config));
  if (config.metrics.nvtx && !with_cuda)
    throw usage_error(config, {"metrics.nvtx"},
                      "metrics: nvtx needs a build with CUDA, and this one has none");
  auto data = std::make_unique<TrainingData>(config, world, console);
  const Sampler sampler(data->training.path().string(), data->training.tokens(), row_shape(config),
                        config.train.seed);
  SessionPlan plan = plan_session(world, config, resolve_grid(config, world.size()), Purpose::train);
  show_plan(console, world, plan);
  auto parts = std::make_unique<TrainingParts>(world, std::move(plan), std::move(data), console);
  const CheckpointRules rules = checkpoint_rules(config, arguments);
  if (folder.resume().empty())
    start_fresh(*parts, folder, notice, rules);
  else
    resume(*parts, folder, notice, rules, arguments.allow_other_data);
  write_machine_record(parts->session, parts->files->directory.path());
  keep_profile(config, parts->files->directory.path(), world);
  const std::int64_t samples = parts->progress.samples;
  parts->loader.emplace(parts->data->training, row_shape(config),
                        batch_layout(config, parts->session.groups()),
                        TrainingOrder{.seed = config.train.seed, .consumed_samples = samples});
  parts->guard.begin(parts->progress.step);
  parts->session.stream().set_nvtx(config.metrics.nvtx);
  if (parts->session.stream().device() != DeviceKind::cpu)
    parts->files->writer.reserve(checkpoint_pieces(parts->optimizer.state().pieces_to_save()));
  show(console, fmt::format("data       {} tokens, {} rows an epoch; at sample {} (epoch {}, row {})",
                            parts->data->training.tokens(), sampler.samples(), samples,
                            sampler.epoch_of(samples), samples % sampler.samples()));
  return parts;
}

}  // namespace foretoken

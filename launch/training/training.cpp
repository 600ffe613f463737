#include "launch/training/training.h"

#include <chrono>
#include <cmath>
#include <random>
#include <sys/resource.h>

#include "io/checkpoint/checkpoint_directory.h"
#include "io/checkpoint/lineage.h"
#include "launch/config/config_loader.h"
#include "launch/config/config_validator.h"
#include "launch/config/learning_schedule.h"
#include "launch/console/startup_table.h"
#include "launch/console/stop_signal.h"
#include "launch/training/agreement.h"
#include "launch/training/data_identity.h"
#include "launch/training/diagnosis.h"
#include "launch/training/resume.h"
#include "launch/training/step_trace.h"
#include "launch/training/transfer.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

OptimizerConfig adamw_of(const OptimizerSettings& settings) {
  return {.beta1 = settings.beta1,
          .beta2 = settings.beta2,
          .eps = settings.eps,
          .weight_decay = settings.weight_decay,
          .clip_norm = settings.clip,
          .heads_clip_norm = settings.heads_clip,
          .moments = settings.moments == OptimizerSettings::Moments::bf16 ? DType::bf16 : DType::f32};
}

/// Peak memory of this process, or of its GPU, whose memory is all allocated before the first step.
std::int64_t peak_memory(const Device& device) {
  if (const std::size_t in_use = device.memory_in_use(); in_use > 0) return static_cast<std::int64_t>(in_use);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{1024} * usage.ru_maxrss;
}

/// The part of the objective that a checkpoint stores; empty if weights are not balanced.
std::vector<double> balance_of(const Objective& objective, const Config& config) {
  if (config.mtp.balance != MtpConfig::Balance::dynamic) return {};
  return {objective.balance().begin(), objective.balance().end()};
}

std::string random_word() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

bool gives_trunk_gradients(const Config& config) {
  return measures_gradients(config.mtp) && config.train.freeze == TrainConfig::Freeze::none;
}

}  // namespace

Training::Training(MpiCommunicator& world, const Config& config, const TrainArguments& arguments,
                   RunFolder& folder, Console& console, StopNotice& notice, TrainingHooks hooks)
    : config_(config),
      arguments_(arguments),
      folder_(folder),
      world_(world),
      console_(console),
      notice_(notice),
      hooks_(std::move(hooks)),
      dataset_(config.data.path),
      session_(world, config, resolve_grid(config, world.size()), Purpose::train),
      arena_(session_.stream().device()),
      plan_(plan_shards(session_.model().parameters(), config.parallel.bucket_mib << 20,
                        config.parallel.sharded_optimizer, session_.grid().dp, session_.groups().dp_rank,
                        config.optimizer.heads_clip > 0)),
      reducer_(session_.model().parameters(), plan_, *session_.groups().dp),
      shared_(session_.model().parameters(), plan_, reducer_, session_.groups()),
      optimizer_(arena_, session_.model().parameters(), plan_, adamw_of(config.optimizer),
                 *session_.groups().dp, *session_.groups().device_world),
      guard_(arena_, session_, optimizer_, plan_, console_),
      schedule_(schedule_of(config)),
      rules_({.every_steps = config.checkpoint.every,
              .every = std::chrono::duration<double>(60 * config.checkpoint.every_minutes),
              .last_step = config.train.steps,
              .stop_after = arguments.stop_after}),
      clock_(rules_, CheckpointClock::Clock::now()) {
  validate_vocabulary(config_, dataset_.tokenizer().vocab_size, dataset_.path().string());
  validate(schedule_);
  require_same_on_all_ranks(dataset_, world_, console_);
  const Sampler sampler(dataset_.path().string(), dataset_.tokens(), row_shape(config_), config_.train.seed);
  pass_.emplace(session_, reducer_, shared_);
  arena_.seal();
  if (!config_.data.validation_path.empty()) {
    validation_dataset_.emplace(config_.data.validation_path);
    validation_dataset_->require_tokenizer(dataset_.tokenizer());
    require_same_on_all_ranks(*validation_dataset_, world_, console_);
    validation_.emplace(session_, *validation_dataset_, config_.train.evaluate_rows);
  }
  if (folder_.resume().empty()) {
    start_fresh();
  } else {
    resume();
  }
  loader_.emplace(dataset_, row_shape(config_), batch_layout(config_, session_.groups()),
                  TrainingOrder{.seed = config_.train.seed, .consumed_samples = samples_});
  guard_.begin(step_);
  if (session_.stream().device() != DeviceKind::cpu)
    writer_->reserve(checkpoint_pieces(optimizer_.pieces_to_save()));
  console_.line(fmt::format("data       {} tokens, {} rows an epoch; at sample {} (epoch {}, row {})",
                            dataset_.tokens(), sampler.samples(), samples_, sampler.epoch_of(samples_),
                            samples_ % sampler.samples()));
}

Training::~Training() {
  notice_.close_run();
}

void Training::open_run() {
  run_.emplace(folder_.directory());
  if (session_.is_root()) {
    console_.open_log(run_->log_path());
    metrics_.emplace(
        run_->metrics_path(),
        [this](const std::string& text) { console_.warn(text + "; training goes on, this is said once"); },
        folder_.lineage().branch);
  }
  writer_.emplace(
      run_->checkpoints_path(), world_.rank(), world_.size(),
      CheckpointWriterOptions{.keep = static_cast<int>(config_.checkpoint.keep),
                              .stall_timeout = std::chrono::seconds(config_.checkpoint.timeout_seconds),
                              .parent = folder_.parent(),
                              .lineage = folder_.lineage(),
                              .before_publication = [this] { make_ready_to_publish(); },
                              .log = [this](const std::string& text) { console_.line(text); },
                              .session = broadcast_text(world_, random_word())});
  notice_.while_in_step([this] { writer_->commit_staged(); });
  notice_.open_run(world_, run_->path());
  const int ranks = world_.size(), threads = session_.stream().threads().threads();
  console_.line(fmt::format("foretoken on {} rank{}, {}, {} thread{} a rank", ranks, ranks == 1 ? "" : "s",
                            device_text(session_), threads, threads == 1 ? "" : "s"));
  console_.line("run        " + run_->path());
  console_.line("stop       " + stop_help(rules_));
  std::string table = startup_table(session_);
  table.pop_back();
  console_.line(table);
}

void Training::start_fresh() {
  Parameters& parameters = session_.model().parameters();
  parameters.initialize(session_.stream(), config_.train.seed);
  std::string transferred;  // before the folder exists, so that a refusal leaves none
  if (!config_.train.init_from.empty())
    transferred = transfer_weights(config_.train.init_from, config_, dataset_.tokenizer(), parameters,
                                   session_.stream(), world_, console_);
  folder_.start(config_);
  open_run();
  if (!transferred.empty()) console_.line(transferred);
}

void Training::resume() {
  const Checkpoint checkpoint =
      load_checkpoint(folder_.resume(), config_, dataset_.tokenizer(), optimizer_.pieces_to_load(),
                      session_.stream(), world_, console_);
  const CheckpointInfo& info = checkpoint.info();
  require_same_data(info, dataset_, validation_dataset_ ? &*validation_dataset_ : nullptr,
                    arguments_.allow_other_data, console_);
  session_.model().parameters().round_weights(session_.stream());
  step_ = info.step;
  samples_ = info.samples;
  tokens_ = info.tokens;
  restore_objective(session_.objective(), info, config_);
  guard_.restore(info.skipped, info.skipped_in_a_row);
  saved_step_ = step_;
  if (info.seed != config_.train.seed) {
    const std::string change = fmt::format(
        "train.seed: the checkpoint's order of data has seed {}, this run {}", info.seed, config_.train.seed);
    if (!origin_of(config_, {"train.seed"}).starts_with("--set"))
      throw UsageError("{}; --set train.seed={} asks for it", change, config_.train.seed);
    console_.warn(
        fmt::format("{}: from sample {} on rows and sampled depths come in another order", change, samples_));
  }
  folder_.go_on(checkpoint, config_);
  open_run();
  for (const std::string& text : resume_warnings(settings_of(checkpoint), config_, step_))
    console_.warn(text);
  console_.line(fmt::format("resume     step {} of {}, {} tokens seen, written as {}", step_,
                            config_.train.steps, tokens_, to_string(info.grid)));
}

/// Runs in the writer's thread. Checks that metrics up to the checkpoint are on disk and that this job still
/// holds the run.
void Training::make_ready_to_publish() {
  folder_.require_held();
  if (metrics_) metrics_->sync();
}

ExitCode Training::run() {
  const auto start = std::chrono::steady_clock::now();
  try {
    const ExitCode code = run_steps();
    report_end(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    return code;
  } catch (const NumericalError& error) {
    keep_last_good(error.what());
    throw;
  }
}

void Training::report_end(double seconds) {
  std::int64_t memory = peak_memory(session_.device());
  world_.all_reduce(tensor_over(std::span(&memory, 1), {1}), ReduceOp::max);
  if (metrics_) metrics_->write(EndMetrics{.step = step_, .seconds = seconds, .peak_memory_bytes = memory});
}

/// Collective.
bool Training::any_rank_signalled() {
  std::int32_t signalled = stop_signal() != 0 ? 1 : 0;
  world_.all_reduce(tensor_over(std::span(&signalled, 1), {1}), ReduceOp::max);
  return signalled != 0;
}

void Training::settle_staged() {
  std::array<std::int64_t, 3> own{writer_->committing_staged() ? 1 : 0, writer_->staged_step(),
                                  -writer_->staged_step()};
  world_.all_reduce(tensor_over<std::int64_t>(own, {3}), ReduceOp::max);
  const bool started = own[0] != 0, agreed = own[1] == -own[2];
  if (!started) return;
  if (!agreed) return writer_->drop_staged();
  writer_->commit_staged();
  finish_save();
}

ExitCode Training::end_stopped() {
  save();
  finish_save();
  console_.line(fmt::format("stopped    at step {} of {}; go on with: foretoken train --resume {}", step_,
                            config_.train.steps, run_->path()));
  return ExitCode::resumable;
}

ExitCode Training::run_steps() {
  if (step_ < config_.train.steps && (any_rank_signalled() || is_last_asked_for(rules_, step_)))
    return end_stopped();
  if (step_ == 0 && validation_) evaluate();
  while (step_ < config_.train.steps) {
    notice_.enter_step(step_ + 1);
    std::optional<StepTrace> trace;
    if (step_ + 1 == config_.train.trace_step) trace.emplace(session_);
    const StepMetrics metrics = step();
    console_.line(console_line(metrics));
    if (metrics_) metrics_->write(metrics);
    if (trace) {
      const std::string file = fmt::format("{}/trace_{:08}.json", run_->path(), step_);
      console_.line("trace      " + trace->write(file, step_));
      trace.reset();
    }
    writer_->check();

    const StepDecision decision = decide(rules_, step_, votes_);
    const bool last = step_ == config_.train.steps;
    const auto due = [&](std::int64_t every) { return every > 0 && step_ % every == 0; };
    if (due(config_.parallel.check_replicas_every)) guard_.compare_replicas(step_);
    if (decision.stop) settle_staged();
    // A state whose next step is not finite must not replace a good checkpoint.
    const bool good = guard_.skipped_in_a_row() == 0;
    if (decision.save && (good || last || decision.stop)) save();
    if (decision.stage && good) stage();
    if (validation_ && (last || due(config_.train.evaluate_every))) evaluate();
    if (decision.stop) return end_stopped();
  }
  finish_save();
  console_.line(fmt::format("done       {} steps, {} tokens; {}", step_, tokens_, run_->path()));
  return ExitCode::done;
}

StepMetrics Training::step() {
  const auto start = std::chrono::steady_clock::now();
  step_start_ = start;
  const std::int64_t every = config_.mtp.depths > 0 ? config_.mtp.diagnose_every : 0;
  const bool diagnose = every > 0 && (step_ + 1) % every == 0;
  const double lr = learning_rate(schedule_, step_ + 1);
  pass_->prepare(loader_->next(), samples_);
  std::optional<HeadsMetrics> heads;
  if (diagnose && pass_->samples_depths()) heads = measure_heads();
  run_pass(diagnose && !heads);
  std::optional<StepMetrics> replayable;  // a step that may be replayed reports before its update
  if (config_.train.replay_suspicious) replayable = report(diagnose && !heads, lr);
  if (replayable && guard_.wants_replay(*replayable))
    replayable = guard_.replay(step_ + 1, *replayable, [&] {
      run_pass(diagnose && !heads);
      return report(diagnose && !heads, lr);
    });
  optimizer_.update(session_.stream(), lr, step_ + 1 - guard_.skipped());
  guard_.after_update(step_ + 1);
  if (hooks_.updated) hooks_.updated(step_ + 1, session_, optimizer_);
  StepMetrics metrics = replayable ? *replayable : report(diagnose && !heads, lr);
  if (heads) metrics.heads = std::move(heads);
  guard_.judge(step_ + 1, metrics);

  ++step_;
  samples_ += config_.train.global_batch;
  const std::int64_t tokens = config_.train.global_batch * config_.data.sequence_length;
  tokens_ += tokens;
  if (metrics.heads && !metrics.skipped && config_.mtp.balance == MtpConfig::Balance::dynamic)
    session_.objective().rebalance(metrics.heads->trunk_norms);
  session_.objective().set_tokens_seen(tokens_);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // The first steps touch memory for the first time; the mean forgets them quickly.
  seconds_per_step_ = seconds_per_step_ == 0 ? seconds : 0.9 * seconds_per_step_ + 0.1 * seconds;
  metrics.step = step_;
  metrics.steps = config_.train.steps;
  metrics.milliseconds = seconds * 1e3;
  metrics.tokens_per_second = static_cast<double>(tokens) / seconds;
  metrics.seconds_left = seconds_per_step_ * static_cast<double>(config_.train.steps - step_);
  metrics.tokens_seen = tokens_;
  metrics.samples_seen = samples_;
  return metrics;
}

void Training::run_pass(bool diagnose) {
  pass_->run(diagnose);
  if (hooks_.gradients_final) hooks_.gradients_final(step_ + 1, session_, optimizer_);
  optimizer_.measure(session_.stream(), session_.model().sums().losses);
  guard_.before_update();
}

HeadsMetrics Training::measure_heads() {
  std::vector<double> sums = pass_->measure();
  const Tensor all = tensor_over<double>(sums, session_.model().sums().all.shape);
  world_.all_reduce(all);
  return heads_metrics(StepSums(all, config_.mtp.depths), gives_trunk_gradients(config_));
}

StepMetrics Training::report(bool diagnose, double lr) {
  std::vector<double> all = session_.read_sums();  // waits for the step and for the peers that it needs
  const double norm = optimizer_.norm(session_.stream());
  const std::string memory_fault = guard_.memory_fault();

  // Each rank contributes its stages' sums over its own rows; the other entries are zero.
  const std::size_t sums = all.size();
  for (const auto* counts : {&pass_->counts().all, &pass_->counts().trained})
    for (const std::int64_t count : *counts) all.push_back(static_cast<double>(count));
  const auto now = CheckpointClock::Clock::now();
  const double seconds = std::chrono::duration<double>(now - step_start_).count();
  for (const bool vote : {!memory_fault.empty(), stop_signal() != 0, clock_.save_ready(now, writer_->busy()),
                          clock_.stage_ready(now, writer_->busy(), seconds)})
    all.push_back(vote ? 1 : 0);
  world_.all_reduce(tensor_over<double>(all, {static_cast<std::int64_t>(all.size())}));
  const auto vote = [&](std::size_t from_end) {
    return static_cast<std::int64_t>(all[all.size() - from_end]);
  };
  if (vote(4) > 0) guard_.throw_memory_fault(memory_fault);
  votes_ = {.ranks = world_.size(), .signalled = vote(3), .save_ready = vote(2), .stage_ready = vote(1)};
  GradientPass::Counts counts = pass_->counts();
  for (std::size_t k = 0; k < counts.all.size(); ++k) {
    counts.all[k] = static_cast<std::int64_t>(all[sums + k]);
    counts.trained[k] = static_cast<std::int64_t>(all[sums + counts.all.size() + k]);
  }
  const StepSums global(tensor_over(std::span(all).first(sums), {static_cast<std::int64_t>(sums)}),
                        config_.mtp.depths);
  const std::span<const double> weights = session_.objective().weights();
  const Objective::Losses losses = pass_->losses(global.losses.span<double>(), counts);
  StepMetrics metrics{.loss = losses.total,
                      .depth_losses = losses.depths,
                      .weights = {weights.begin(), weights.end()},
                      .grad_norm = norm,
                      .heads_grad_norm = optimizer_.heads_norm(session_.stream()),
                      .lr = lr};
  guard_.score(metrics);
  if (diagnose) metrics.heads = heads_metrics(global, gives_trunk_gradients(config_));
  return metrics;
}

CheckpointInfo Training::checkpoint_info() {
  return {
      .step = step_,
      .tokens = tokens_,
      .samples = samples_,
      .grid = session_.grid(),
      .seed = config_.train.seed,
      .skipped = guard_.skipped(),
      .skipped_in_a_row = guard_.skipped_in_a_row(),
      .balance = balance_of(session_.objective(), config_),
      .conventions = conventions_of(config_),
      .config = to_toml(config_),
      .tokenizer = dataset_.tokenizer(),
      .training_data = dataset_.record(),
      .validation_data = validation_dataset_ ? std::optional(validation_dataset_->record()) : std::nullopt,
      .suspect = {},
      .created = {}};
}

void Training::meet_after_save() {
  Seconds& limit = world_.world().limits().wait;
  const Seconds limit_of_steps = limit;
  limit = std::max(limit, Seconds(config_.checkpoint.timeout_seconds));
  world_.barrier();
  limit = limit_of_steps;
}

void Training::finish_save() {
  writer_->finish();
  meet_after_save();
}

void Training::save() {
  if (saved_step_ == step_) return;
  guard_.require_sound_state(step_);
  writer_->save(checkpoint_info(), checkpoint_pieces(optimizer_.pieces_to_save()),
                [this] { meet_after_save(); });
  saved_step_ = step_;
  clock_.saved(CheckpointClock::Clock::now());
}

void Training::stage() {
  const auto begin = CheckpointClock::Clock::now();
  guard_.require_sound_state(step_);  // a staged copy may be published without another check
  writer_->stage(checkpoint_info(), checkpoint_pieces(optimizer_.pieces_to_save()));
  clock_.staged(begin, CheckpointClock::Clock::now());
}

void Training::keep_last_good(const char* fault) noexcept try {
  notice_.close_run();
  settle_staged();
  writer_->finish();  // a running save is of a state that was verified, or is marked below
  if (!session_.is_root()) return;
  if (guard_.suspect_after()) mark_suspects(fault);
  const bool saved = !list_checkpoints(run_->checkpoints_path()).empty();
  console_.line(fmt::format("stopped    after step {} of {}: {}; {}", step_, config_.train.steps, fault,
                            saved ? fmt::format("foretoken train --resume {} goes on from {}", run_->path(),
                                                checkpoints_at(run_->path()).front().filename().string())
                                  : "no checkpoint was written"));
} catch (const std::exception& error) {
  console_.warn(error.what());
}

void Training::mark_suspects(const char* fault) {
  for (const CompleteCheckpoint& checkpoint : complete_checkpoints(run_->checkpoints_path())) {
    if (checkpoint.step <= *guard_.suspect_after()) continue;
    mark_suspect(checkpoint.path, fault);
    console_.warn(
        fmt::format("checkpoint {}: marked suspect: it was taken after step {}, the last one whose "
                    "state was found whole",
                    checkpoint_name(checkpoint.step), *guard_.suspect_after()));
  }
}

void Training::evaluate() {
  const EvaluationMetrics metrics = validation_->run(step_);
  console_.line(console_line(metrics));
  if (metrics_) metrics_->write(metrics);
}

}  // namespace foretoken

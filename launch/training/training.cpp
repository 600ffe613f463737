#include "launch/training/training.h"

#include <chrono>
#include <cmath>
#include <sys/resource.h>
#include <utility>

#include "io/checkpoint/checkpoint_directory.h"
#include "io/checkpoint/lineage.h"
#include "launch/config/config_loader.h"
#include "launch/config/learning_schedule.h"
#include "launch/console/stop_signal.h"
#include "launch/session/diagnosis.h"
#include "launch/session/resume.h"
#include "launch/training/launch_command.h"
#include "launch/training/step_profile.h"
#include "launch/training/step_trace.h"
#include "model/cost.h"
#include "runtime/error.h"
#include "runtime/timing/nvtx.h"

namespace foretoken {

namespace {

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

bool gives_trunk_gradients(const Config& config) {
  return measures_gradients(config.mtp) && config.train.freeze == TrainConfig::Freeze::none;
}

/// Adds the time of its scope to a sum.
class SecondsOf {
 public:
  explicit SecondsOf(double& sum) : sum_(sum) {}
  ~SecondsOf() { sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  SecondsOf(const SecondsOf&) = delete;
  SecondsOf& operator=(const SecondsOf&) = delete;

 private:
  double& sum_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

Training::Training(std::unique_ptr<TrainingParts> parts, const CheckpointRules& rules, TrainingHooks hooks)
    : parts_(std::move(parts)),
      config_(parts_->config()),
      world_(parts_->world),
      console_(parts_->console),
      session_(parts_->session),
      optimizer_(parts_->optimizer),
      guard_(parts_->guard),
      pass_(parts_->pass),
      progress_(parts_->progress),
      files_(*parts_->files),
      metrics_(files_.metrics),
      writer_(files_.writer),
      hooks_(std::move(hooks)),
      schedule_(schedule_of(config_)),
      report_(console_, config_),
      rules_(rules),
      clock_(rules_, CheckpointClock::Clock::now()),
      first_step_(progress_.step) {}

ExitCode Training::run() {
  const auto start = std::chrono::steady_clock::now();
  try {
    const ExitCode code = run_steps();
    end(code, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    return code;
  } catch (const NumericalError& error) {
    keep_last_good(error.what());
    throw;
  }
}

void Training::end(ExitCode code, double seconds) {
  std::int64_t memory = peak_memory(session_.device());
  world_.all_reduce(tensor_over(std::span(&memory, 1), {1}), ReduceOp::max);
  const EndMetrics metrics{.step = progress_.step,
                           .seconds = seconds,
                           .peak_memory_bytes = memory,
                           .checkpoint_seconds = checkpoint_seconds_};
  if (metrics_) metrics_->write(metrics);
  if (!session_.is_root()) return;
  const RunSummary::End end = code == ExitCode::resumable          ? RunSummary::End::stopped
                              : first_step_ >= config_.train.steps ? RunSummary::End::nothing_left
                                                                   : RunSummary::End::done;
  report_.end(end, metrics, progress_.tokens, files_.directory.path(), launch_command(world_.size()));
}

/// Collective.
bool Training::any_rank_signalled() {
  std::int32_t signalled = stop_signal() != 0 ? 1 : 0;
  world_.all_reduce(tensor_over(std::span(&signalled, 1), {1}), ReduceOp::max);
  return signalled != 0;
}

void Training::publish_staged() {
  std::array<std::int64_t, 3> own{writer_.committing_staged() ? 1 : 0, writer_.staged_step(),
                                  -writer_.staged_step()};
  world_.all_reduce(tensor_over<std::int64_t>(own, {3}), ReduceOp::max);
  const bool started = own[0] != 0, agreed = own[1] == -own[2];
  if (!started) return;
  if (!agreed) return writer_.drop_staged();
  writer_.commit_staged();
  finish_save();
}

ExitCode Training::stop() {
  save();
  finish_save();
  return ExitCode::resumable;
}

ExitCode Training::run_steps() {
  if (progress_.step < config_.train.steps &&
      (any_rank_signalled() || has_reached_stop_after(rules_, progress_.step)))
    return stop();
  if (progress_.step == 0 && parts_->validation) evaluate();
  while (progress_.step < config_.train.steps) {
    files_.notice.enter_step(progress_.step + 1);
    std::optional<StepTrace> trace;
    if (progress_.step + 1 == config_.train.trace_step) trace.emplace(session_);
    const StepMetrics metrics = step();
    const StepDecision decision = decide(rules_, progress_.step, votes_);
    const bool last = progress_.step == config_.train.steps;
    report_.step(metrics, last || decision.stop);
    if (metrics_) metrics_->write(metrics);
    if (trace) {
      const std::string file = fmt::format("{}/trace_{:08}.json", files_.directory.path(), progress_.step);
      console_.line("trace      " + trace->write(file, progress_.step));
      trace.reset();
    }
    writer_.check();

    const auto due = [&](std::int64_t every) { return every > 0 && progress_.step % every == 0; };
    if (due(config_.parallel.check_replicas_every)) guard_.compare_replicas(progress_.step);
    if (decision.stop) publish_staged();
    // A skipped step means that this state gives a loss or a gradient norm that is not finite. Such a state
    // must not replace a good checkpoint.
    const bool good = guard_.skipped_in_a_row() == 0;
    if (decision.save && (good || last || decision.stop)) save();
    if (decision.stage && good) stage();
    if (parts_->validation && (last || due(config_.train.evaluate_every))) evaluate();
    if (decision.stop) return stop();
  }
  finish_save();
  return ExitCode::done;
}

StepMetrics Training::step() {
  const auto start = std::chrono::steady_clock::now();
  step_start_ = start;
  const std::int64_t every = config_.mtp.depths > 0 ? config_.mtp.diagnose_every : 0;
  const bool diagnose = every > 0 && (progress_.step + 1) % every == 0;
  const double lr = learning_rate(schedule_, progress_.step + 1);
  std::optional<StepProfile> profile;
  if (measures_times(progress_.step + 1)) profile.emplace(session_);
  const std::span<const Batch> rows = parts_->loader->next();
  if (profile) profile->data_ready();
  pass_.prepare(rows, progress_.samples);
  std::optional<HeadsMetrics> heads;
  if (diagnose && pass_.samples_depths()) heads = measure_heads();
  run_pass(diagnose && !heads);
  std::optional<StepMetrics>
      replayable;  // if the step may be replayed, its metrics are needed before its update
  if (config_.train.replay_suspicious) replayable = exchange_metrics(diagnose && !heads, lr);
  if (replayable && guard_.wants_replay(*replayable))
    replayable = guard_.replay(progress_.step + 1, *replayable, [&] {
      run_pass(diagnose && !heads);
      return exchange_metrics(diagnose && !heads, lr);
    });
  guard_.before_update();
  {
    const NvtxRange range(session_.stream(), "optimizer");
    optimizer_.update(session_.stream(), lr, progress_.step + 1 - guard_.skipped());
  }
  guard_.after_update(progress_.step + 1);
  if (hooks_.updated) hooks_.updated(progress_.step + 1, session_, optimizer_);
  StepMetrics metrics = replayable ? *replayable : exchange_metrics(diagnose && !heads, lr);
  if (profile) profile->exchanged();
  if (heads) metrics.heads = std::move(heads);
  guard_.count_skipped(progress_.step + 1, metrics);

  ++progress_.step;
  progress_.samples += config_.train.global_batch;
  const std::int64_t tokens = config_.train.global_batch * config_.data.sequence_length;
  progress_.tokens += tokens;
  if (metrics.heads && !metrics.skipped && config_.mtp.balance == MtpConfig::Balance::dynamic)
    session_.objective().rebalance(metrics.heads->trunk_norms);
  session_.objective().set_tokens_seen(progress_.tokens);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // The first steps are slower because they touch memory for the first time. A running mean forgets them
  // quickly.
  seconds_per_step_ = seconds_per_step_ == 0 ? seconds : 0.9 * seconds_per_step_ + 0.1 * seconds;
  metrics.step = progress_.step;
  metrics.steps = config_.train.steps;
  metrics.milliseconds = seconds * 1e3;
  metrics.checkpoint_seconds = std::exchange(checkpoint_seconds_, 0.0);
  metrics.tokens_per_second = static_cast<double>(tokens) / seconds;
  metrics.tflops_per_rank =
      training_flops_per_token(config_.model, config_.mtp, config_.data.sequence_length) *
      metrics.tokens_per_second / world_.size() / 1e12;
  metrics.seconds_left = seconds_per_step_ * static_cast<double>(config_.train.steps - progress_.step);
  if (profile) metrics.times = profile->finish(peak_memory(session_.device()));
  metrics.tokens_seen = progress_.tokens;
  metrics.samples_seen = progress_.samples;
  return metrics;
}

/// The steps that have a line on the console anyway.
bool Training::measures_times(std::int64_t step) const {
  return step == first_step_ + 1 || step == config_.train.steps || step % config_.run.log_every == 0;
}

void Training::run_pass(bool diagnose) {
  pass_.run(diagnose);
  if (hooks_.gradients_final) hooks_.gradients_final(progress_.step + 1, session_, optimizer_);
  optimizer_.measure(session_.stream(), session_.model().sums().losses);
  guard_.check_state();
}

HeadsMetrics Training::measure_heads() {
  std::vector<double> sums = pass_.measure();
  const Tensor all = tensor_over<double>(sums, session_.model().sums().all.shape);
  world_.all_reduce(all);
  return heads_metrics(StepSums(all, config_.mtp.depths), gives_trunk_gradients(config_));
}

StepMetrics Training::exchange_metrics(bool diagnose, double lr) {
  std::vector<double> all =
      session_.read_sums();  // waits for the step, and so for the peers that it receives from
  const double norm = optimizer_.norm(session_.stream());
  const std::string memory_fault = guard_.memory_fault();

  // Each rank contributes the sums of its own stages over its own rows. Its other entries are zero.
  const std::size_t sums = all.size();
  for (const auto* counts : {&pass_.counts().all, &pass_.counts().trained})
    for (const std::int64_t count : *counts) all.push_back(static_cast<double>(count));
  const auto now = CheckpointClock::Clock::now();
  const double seconds = std::chrono::duration<double>(now - step_start_).count();
  for (const bool vote : {!memory_fault.empty(), stop_signal() != 0, clock_.save_ready(now, writer_.busy()),
                          clock_.stage_ready(now, writer_.busy(), seconds)})
    all.push_back(vote ? 1 : 0);
  world_.all_reduce(tensor_over<double>(all, {static_cast<std::int64_t>(all.size())}));
  const auto vote = [&](std::size_t from_end) {
    return static_cast<std::int64_t>(all[all.size() - from_end]);
  };
  if (vote(4) > 0) guard_.throw_memory_fault(memory_fault);
  votes_ = {.ranks = world_.size(), .signalled = vote(3), .save_ready = vote(2), .stage_ready = vote(1)};
  GradientPass::Counts counts = pass_.counts();
  for (std::size_t k = 0; k < counts.all.size(); ++k) {
    counts.all[k] = static_cast<std::int64_t>(all[sums + k]);
    counts.trained[k] = static_cast<std::int64_t>(all[sums + counts.all.size() + k]);
  }
  const StepSums global(tensor_over(std::span(all).first(sums), {static_cast<std::int64_t>(sums)}),
                        config_.mtp.depths);
  const std::span<const double> weights = session_.objective().weights();
  const Objective::Losses losses = pass_.losses(global.losses.span<double>(), counts);
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
  return {.step = progress_.step,
          .tokens = progress_.tokens,
          .samples = progress_.samples,
          .grid = session_.grid(),
          .seed = config_.train.seed,
          .skipped = guard_.skipped(),
          .skipped_in_a_row = guard_.skipped_in_a_row(),
          .balance = balance_of(session_.objective(), config_),
          .conventions = conventions_of(config_),
          .config = to_toml(config_),
          .tokenizer = parts_->data->training.tokenizer(),
          .training_data = parts_->data->training.record(),
          .validation_data =
              parts_->data->validation ? std::optional(parts_->data->validation->record()) : std::nullopt,
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
  const SecondsOf waited(checkpoint_seconds_);
  writer_.finish();
  meet_after_save();
}

void Training::save() {
  if (progress_.saved_step == progress_.step) return;
  const SecondsOf waited(checkpoint_seconds_);
  const NvtxRange range(session_.stream(), "checkpoint");
  guard_.require_sound_state(progress_.step);
  writer_.save(checkpoint_info(), checkpoint_pieces(optimizer_.state().pieces_to_save()),
               [this] { meet_after_save(); });
  progress_.saved_step = progress_.step;
  clock_.saved(CheckpointClock::Clock::now());
}

void Training::stage() {
  const SecondsOf waited(checkpoint_seconds_);
  const NvtxRange range(session_.stream(), "checkpoint");
  const auto begin = CheckpointClock::Clock::now();
  guard_.require_sound_state(progress_.step);  // a staged copy may be published later without another check
  writer_.stage(checkpoint_info(), checkpoint_pieces(optimizer_.state().pieces_to_save()));
  clock_.staged(begin, CheckpointClock::Clock::now());
}

void Training::keep_last_good(const char* reason) noexcept try {
  files_.notice.close_run();
  publish_staged();
  writer_.finish();  // the state of a running save was verified, or the checkpoint is marked below
  if (!session_.is_root()) return;
  if (guard_.suspect_after()) mark_suspects(reason);
  const std::string run = files_.directory.path();
  const bool saved = !list_checkpoints(files_.directory.checkpoints_path()).empty();
  console_.status({});
  console_.line(fmt::format("stopped    after step {} of {}: {}; {}", progress_.step, config_.train.steps,
                            reason,
                            saved ? fmt::format("the newest checkpoint to resume from is {}\nresume     {}",
                                                checkpoints_at(run).front().filename().string(),
                                                resume_command(launch_command(world_.size()), run))
                                  : "no checkpoint was written"));
} catch (const std::exception& error) {
  console_.warn(error.what());
}

void Training::mark_suspects(const char* reason) {
  for (const CompleteCheckpoint& checkpoint : complete_checkpoints(files_.directory.checkpoints_path())) {
    if (checkpoint.step <= *guard_.suspect_after()) continue;
    mark_suspect(checkpoint.path, reason);
    console_.warn(
        fmt::format("checkpoint {}: marked suspect: step {} is the last one whose state was verified",
                    checkpoint_name(checkpoint.step), *guard_.suspect_after()));
  }
}

void Training::evaluate() {
  const EvaluationMetrics metrics = parts_->validation->run(progress_.step);
  report_.evaluation(metrics);
  if (metrics_) metrics_->write(metrics);
}

}  // namespace foretoken

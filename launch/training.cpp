#include "launch/training.h"

#include <chrono>
#include <cmath>
#include <random>
#include <sys/resource.h>

#include "launch/agreement.h"
#include "launch/config_loader.h"
#include "launch/config_validator.h"
#include "launch/data_identity.h"
#include "launch/diagnosis.h"
#include "launch/learning_schedule.h"
#include "launch/resume.h"
#include "launch/startup_table.h"
#include "launch/step_trace.h"
#include "launch/stop_signal.h"
#include "launch/transfer.h"
#include "runtime/error.h"

namespace foretoken {

/// Keeps gradient reductions and the exchange of shared weights moving under the pipeline's actions, and
/// records these where a timeline is kept.
class Training::Overlap : public ActionObserver {
 public:
  Overlap(Stream& stream, GradientReducer& reducer, SharedWeights& shared)
      : stream_(stream), reducer_(reducer), shared_(shared) {}
  void on_action_start(const Action& action, Time) override {
    if (Timeline* timeline = timeline_of(action)) span_ = timeline->begin(to_string(action));
  }
  void on_action_done(const Action& action, Time, Time) override {
    if (Timeline* timeline = timeline_of(action)) timeline->end(span_);
    reducer_.progress();
    shared_.progress();
  }

 private:
  /// Messages are recorded where they run.
  Timeline* timeline_of(const Action& action) const {
    return is_compute(action.kind) ? stream_.timeline() : nullptr;
  }

  Stream& stream_;
  std::size_t span_ = 0;
  GradientReducer& reducer_;
  SharedWeights& shared_;
};

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

/// Of this process, or of its GPU, whose memory is all taken before the first step.
std::int64_t peak_memory(const Device& device) {
  if (const std::size_t in_use = device.memory_in_use(); in_use > 0) return static_cast<std::int64_t>(in_use);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{1024} * usage.ru_maxrss;
}

/// What a checkpoint keeps of it: nothing where weights are not balanced.
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
                   RunFolder& folder, Console& console, StopNotice& notice)
    : config_(config),
      arguments_(arguments),
      folder_(folder),
      world_(world),
      console_(console),
      notice_(notice),
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
  overlap_ = std::make_unique<Overlap>(session_.stream(), reducer_, shared_);
  executor_.emplace(session_.training().program, session_.training().footprint, session_.model(),
                    *session_.groups().pipeline, session_.stream(), overlap_.get());
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
  if (config_.mtp.balance == MtpConfig::Balance::sampling) sampler_.emplace(config_.mtp, config_.train.seed);
  check_replicas(session_.stream(), session_.model().parameters(), session_.groups());
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
  std::string transferred;  // before there is a folder: a refusal leaves none
  if (!config_.train.init_from.empty())
    transferred = transfer_weights(config_.train.init_from, config_, to_string(dataset_.tokenizer()),
                                   parameters, session_.stream(), world_, console_);
  folder_.start(config_);
  open_run();
  if (!transferred.empty()) console_.line(transferred);
}

void Training::resume() {
  const Checkpoint checkpoint =
      load_checkpoint(folder_.resume(), config_, to_string(dataset_.tokenizer()), optimizer_.pieces_to_load(),
                      session_.stream(), world_, console_);
  const CheckpointInfo& info = checkpoint.info();
  require_same_data(info, dataset_, validation_dataset_ ? &*validation_dataset_ : nullptr,
                    arguments_.allow_other_data, console_);
  session_.model().parameters().round_weights(session_.stream());
  step_ = info.step;
  samples_ = info.samples;
  tokens_ = info.tokens;
  restore_objective(session_.objective(), info, config_);
  saved_step_ = step_;
  if (info.seed != config_.train.seed)
    throw UsageError("train.seed: the checkpoint's order of data has seed {}, this run {}", info.seed,
                     config_.train.seed);
  folder_.go_on(checkpoint, config_);
  open_run();
  for (const std::string& text : resume_warnings(settings_of(checkpoint), config_, step_))
    console_.warn(text);
  console_.line(fmt::format("resume     step {} of {}, {} tokens seen, written as {}", step_,
                            config_.train.steps, tokens_, to_string(info.grid)));
}

/// In the writer's thread: the steps up to the checkpoint are reported for good, and the run is still ours.
void Training::make_ready_to_publish() {
  folder_.require_held();
  if (metrics_) metrics_->sync();
}

ExitCode Training::run() {
  const auto start = std::chrono::steady_clock::now();
  const ExitCode code = run_steps();
  report_end(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return code;
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
  if (!started || !agreed) return;
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
    if (due(config_.parallel.check_replicas_every))
      check_replicas(session_.stream(), session_.model().parameters(), session_.groups());
    if (decision.stop) settle_staged();
    if (decision.save) save();
    if (decision.stage) stage();
    if (validation_ && (last || due(config_.train.evaluate_every))) evaluate();
    if (decision.stop) return end_stopped();
  }
  finish_save();
  console_.line(fmt::format("done       {} steps, {} tokens; {}", step_, tokens_, run_->path()));
  return ExitCode::done;
}

std::vector<std::int64_t> Training::accumulate_gradients(bool diagnose) {
  RankModel& model = session_.model();
  const BatchLayout layout = batch_layout(config_, session_.groups());
  std::vector<MicrobatchInput> inputs;
  std::vector<std::int64_t> counts(session_.objective().weights().size()), trained(counts.size());
  for (const Batch& batch : loader_->next()) {
    MicrobatchInput& input = inputs.emplace_back(input_of(batch));
    const std::int64_t m = std::ssize(inputs) - 1;
    // A step that is diagnosed measures every depth, and trains it as well.
    if (sampler_ && !diagnose)
      input.depths = sampler_->draw(samples_ + (m * layout.dp + layout.dp_rank) * layout.rows);
    if (!model.takes_losses()) continue;
    std::vector<std::int64_t> of_batch(counts.size());
    add_target_counts(input, config_.data.sequence_length, of_batch);
    for (std::size_t k = 0; k < counts.size(); ++k) {
      counts[k] += of_batch[k];
      if (input.depths.has(static_cast<int>(k))) trained[k] += of_batch[k];
    }
  }
  session_.sum_target_counts(counts);
  std::vector<double> scales = session_.objective().gradient_scales(counts);
  if (sampler_ && !diagnose) sampler_->weigh(scales);
  model.begin_step({.microbatches = inputs,
                    .gradient_scales = std::move(scales),
                    .diagnose = diagnose,
                    .unit_final = [this](int unit) { reducer_.unit_ready(unit); }});
  executor_->run();
  reducer_.finish();
  shared_.finish();
  if (!model.has_main_head()) trained.assign(trained.size(), 0);  // one stage's ranks count for all
  return trained;
}

StepMetrics Training::step() {
  const auto start = std::chrono::steady_clock::now();
  step_start_ = start;
  const std::int64_t every = config_.mtp.depths > 0 ? config_.mtp.diagnose_every : 0;
  const bool diagnose = every > 0 && (step_ + 1) % every == 0;
  const std::vector<std::int64_t> counts = accumulate_gradients(diagnose);
  const double lr = learning_rate(schedule_, step_ + 1);
  optimizer_.step(session_.stream(), lr, step_ + 1);
  StepMetrics metrics = report(counts, diagnose, lr);

  ++step_;
  samples_ += config_.train.global_batch;
  const std::int64_t tokens = config_.train.global_batch * config_.data.sequence_length;
  tokens_ += tokens;
  if (metrics.heads && config_.mtp.balance == MtpConfig::Balance::dynamic)
    session_.objective().rebalance(metrics.heads->trunk_norms);
  session_.objective().set_tokens_seen(tokens_);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // The first steps touch memory for the first time; the mean forgets them soon.
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

StepMetrics Training::report(std::span<const std::int64_t> counts, bool diagnose, double lr) {
  std::vector<double> all = session_.read_sums();  // waits for the step, and for peers that it needs
  const double norm = optimizer_.norm(session_.stream(), step_ + 1);

  // Each rank has what its stages sum up of its own rows, and zeros.
  const std::size_t sums = all.size();
  for (const std::int64_t count : counts) all.push_back(static_cast<double>(count));
  const auto now = CheckpointClock::Clock::now();
  const double seconds = std::chrono::duration<double>(now - step_start_).count();
  for (const bool vote : {stop_signal() != 0, clock_.save_ready(now, writer_->busy()),
                          clock_.stage_ready(now, writer_->busy(), seconds)})
    all.push_back(vote ? 1 : 0);
  world_.all_reduce(tensor_over<double>(all, {static_cast<std::int64_t>(all.size())}));
  const auto vote = [&](std::size_t from_end) {
    return static_cast<std::int64_t>(all[all.size() - from_end]);
  };
  votes_ = {.ranks = world_.size(), .signalled = vote(3), .save_ready = vote(2), .stage_ready = vote(1)};
  std::vector<std::int64_t> global_counts;
  for (std::size_t k = 0; k < counts.size(); ++k)
    global_counts.push_back(static_cast<std::int64_t>(all[sums + k]));
  const StepSums global(tensor_over(std::span(all).first(sums), {static_cast<std::int64_t>(sums)}),
                        config_.mtp.depths);
  const Objective& objective = session_.objective();
  const Objective::Losses losses = objective.losses(global.losses.span<double>(), global_counts);
  StepMetrics metrics{.loss = losses.total,
                      .depth_losses = losses.depths,
                      .weights = {objective.weights().begin(), objective.weights().end()},
                      .grad_norm = norm,
                      .heads_grad_norm = optimizer_.heads_norm(session_.stream()),
                      .lr = lr};
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
      .balance = balance_of(session_.objective(), config_),
      .conventions = conventions_of(config_),
      .config = to_toml(config_),
      .tokenizer = to_string(dataset_.tokenizer()),
      .training_data = dataset_.record(),
      .validation_data = validation_dataset_ ? std::optional(validation_dataset_->record()) : std::nullopt,
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
  writer_->save(checkpoint_info(), checkpoint_pieces(optimizer_.pieces_to_save()),
                [this] { meet_after_save(); });
  saved_step_ = step_;
  clock_.saved(CheckpointClock::Clock::now());
}

void Training::stage() {
  const auto begin = CheckpointClock::Clock::now();
  writer_->stage(checkpoint_info(), checkpoint_pieces(optimizer_.pieces_to_save()));
  clock_.staged(begin, CheckpointClock::Clock::now());
}

void Training::evaluate() {
  const EvaluationMetrics metrics = validation_->run(step_);
  console_.line(console_line(metrics));
  if (metrics_) metrics_->write(metrics);
}

}  // namespace foretoken

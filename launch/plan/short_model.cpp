#include "launch/plan/short_model.h"

#include <algorithm>
#include <random>

#include "model/heads/head_facts.h"
#include "runtime/error.h"
#include "runtime/median.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/timing/timeline.h"

namespace foretoken {

namespace {

constexpr std::int64_t layers = 4;
constexpr std::int64_t microbatches = 2;  // of a step

// The stages of the trunk: embedding and attention half, then halves and whole layers. The last whole layer
// is on the head's stage if the heads read its input.
constexpr int embedding_stage = 0;
constexpr int attention_stage = 3;
const std::vector<int> mlp_stages{1, 4};

Config short_config(Config config, bool depths_apart) {
  config.model.num_hidden_layers = layers;
  config.fp8.first_layers_bf16 = config.fp8.last_layers_bf16 = 0;
  config.train.global_batch = microbatches * config.train.microbatch;
  config.mtp.placement =
      depths_apart ? MtpConfig::Placement::stage_per_depth : MtpConfig::Placement::own_stage;
  return config;
}

bool heads_read_layer(const MtpConfig& mtp) {
  return mtp.depths > 0 && head_facts(mtp.kind).reads_last_input;
}

ModelLayout layout_of(const Config& config, bool depths_apart) {
  ModelLayout layout{.grid = {}, .halves_per_stage = {1, 1, 2, 1, 1, 2}, .depth_stages = 0};
  if (!heads_read_layer(config.mtp)) layout.halves_per_stage.push_back(0);
  if (depths_apart) layout.depth_stages = static_cast<int>(config.mtp.depths);
  layout.halves_per_stage.resize(
      layout.halves_per_stage.size() + static_cast<std::size_t>(layout.depth_stages), 0);
  layout.grid.virtual_stages = layout.stages();
  layout.grid.dp = 1;
  return layout;
}

SessionPlan plan_of(const Device::Options& device, const Config& config, bool depths_apart) {
  SessionPlan plan{.config = short_config(config, depths_apart), .device = device};
  plan.layout = layout_of(plan.config, depths_apart);
  plan.training.footprint.slots.assign(static_cast<std::size_t>(plan.layout.stages()), 1);
  plan.evaluation.footprint.slots = plan.training.footprint.slots;
  return plan;
}

/// Component by component, at least 0.
StageDurations difference(const StageDurations& a, const StageDurations& b) {
  return {std::max(0.0, a.forward - b.forward), std::max(0.0, a.backward_input - b.backward_input),
          std::max(0.0, a.backward_weight - b.backward_weight)};
}

/// The part of a whole layer's time that belongs to one half, if the halves alone take `half` and `other`.
StageDurations share(const StageDurations& layer, const StageDurations& half, const StageDurations& other) {
  const auto of = [](double whole, double a, double b) { return a + b > 0 ? whole * a / (a + b) : 0; };
  return {of(layer.forward, half.forward, other.forward),
          of(layer.backward_input, half.backward_input, other.backward_input),
          of(layer.backward_weight, half.backward_weight, other.backward_weight)};
}

}  // namespace

ShortModel::ShortModel(Device& device, const Config& config, bool depths_apart)
    : device_(device),
      plan_(plan_of({.kind = device.stream().device()}, config, depths_apart)),
      model_(std::make_unique<RankModel>(device.stream(), model_options(plan_, 0))) {
  model_->parameters().initialize(device.stream(), config.train.seed);
  const std::int64_t rows = config.train.microbatch,
                     length = config.data.sequence_length + 1 + config.mtp.depths;
  std::mt19937 random(1);
  std::uniform_int_distribution<std::int32_t> token(0,
                                                    static_cast<std::int32_t>(config.model.vocab_size - 1));
  tokens_.resize(static_cast<std::size_t>(microbatches * rows * length));
  for (std::int32_t& one : tokens_) one = token(random);
  document_starts_.assign(static_cast<std::size_t>(rows * length), 0);
  for (std::int64_t m = 0; m < microbatches; ++m)
    inputs_.push_back({tensor_over(std::span(tokens_).subspan(static_cast<std::size_t>(m * rows * length),
                                                              static_cast<std::size_t>(rows * length)),
                                   {rows, length}),
                       tensor_over(std::span(document_starts_), {rows, length})});
  const std::vector<std::int64_t> targets(static_cast<std::size_t>(config.mtp.depths) + 1,
                                          microbatches * rows * config.data.sequence_length);
  gradient_scales_ = Objective(config.mtp).gradient_scales(targets);
}

/// The actions of a microbatch run one after another. Between stages the boundary tensors are copied, as
/// between two stages of a rank in training; the copies are not in the parts' times.
ShortModel::Step ShortModel::step() {
  Stream& stream = device_.stream();
  RankModel& model = *model_;
  const int stages = plan_.layout.stages();
  const auto begin = std::chrono::steady_clock::now();
  Timeline timeline(stream);
  const auto timed = [&](const char* name, const auto& work) {
    const std::size_t span = timeline.begin(name);
    work();
    timeline.end(span);
  };
  timed("start", [&] {
    model.begin_step(
        {.request = StepRequest::training(), .microbatches = inputs_, .gradient_scales = gradient_scales_});
  });
  for (int m = 0; m < static_cast<int>(microbatches); ++m) {
    const auto at = [m](int stage) { return InFlight{.stage = stage, .microbatch = m, .slot = 0}; };
    for (int stage = 0; stage < stages; ++stage) {
      if (stage > 0)
        timed("copy",
              [&] { copy(stream, model.activation_out(at(stage - 1)), model.activation_in(at(stage))); });
      timed("F", [&] { model.forward(at(stage)); });
    }
    for (int stage = stages - 1; stage >= 0; --stage) {
      timed("I", [&] { model.backward_input(at(stage)); });
      timed("W", [&] { model.backward_weight(at(stage)); });
      if (stage > 0)
        timed("copy", [&] { copy(stream, model.gradient_out(at(stage)), model.gradient_in(at(stage - 1))); });
    }
  }
  stream.synchronize();
  const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - begin;
  const std::vector<TimelineSpan> spans = timeline.spans();

  Step step;
  step.stages.resize(static_cast<std::size_t>(stages));
  step.host = whole.count();
  for (const TimelineSpan& span : spans) step.host -= span.end - span.begin;
  step.host = std::max(0.0, step.host);
  auto span = spans.begin();
  const auto next = [&](std::string_view name) {
    while (span->name != name) ++span;
    const double seconds = span->end - span->begin;
    ++span;
    return seconds;
  };
  step.start = next("start");
  for (std::int64_t m = 0; m < microbatches; ++m) {
    for (auto& stage : step.stages) stage.push_back({.forward = next("F")});
    for (auto stage = step.stages.rbegin(); stage != step.stages.rend(); ++stage) {
      stage->back().backward_input = next("I");
      stage->back().backward_weight = next("W");
    }
  }
  return step;
}

void ShortModel::warm_up() {
  step();
}

void ShortModel::run() {
  steps_.push_back(step());
}

ShortModel::Times ShortModel::times_of(const std::vector<int>& stages) const {
  std::vector<double> forward, input, weight, total;
  for (const Step& step : steps_)
    for (const int stage : stages)
      for (const StageDurations& one : step.stages[static_cast<std::size_t>(stage)]) {
        forward.push_back(one.forward);
        input.push_back(one.backward_input);
        weight.push_back(one.backward_weight);
        total.push_back(one.total());
      }
  std::sort(total.begin(), total.end());
  const std::size_t n = total.size();
  const double middle = median(total);
  return {.seconds = {median(forward), median(input), median(weight)},
          .spread = middle > 0 ? (total[3 * n / 4] - total[n / 4]) / middle : 0,
          .repetitions = static_cast<std::int64_t>(n)};
}

std::map<std::string, ShortModel::Times> ShortModel::parts() const {
  const int head = plan_.layout.head_stage();
  const bool with_layer = heads_read_layer(plan_.config.mtp);
  const Times first = times_of({embedding_stage}), alone = times_of({attention_stage}),
              mlp = times_of(mlp_stages), layer = times_of(with_layer ? std::vector{2} : std::vector{2, 5});
  Times heads = times_of({head});
  if (with_layer) heads.seconds = difference(heads.seconds, layer.seconds);
  const auto part = [](StageDurations seconds, const Times& of) {
    return Times{seconds, of.spread, of.repetitions};
  };
  std::map<std::string, Times> parts{
      {"attention", part(share(layer.seconds, alone.seconds, mlp.seconds), alone)},
      {"mlp", part(share(layer.seconds, mlp.seconds, alone.seconds), mlp)},
      {"embedding", part(difference(first.seconds, alone.seconds), first)}};
  const bool apart = plan_.config.mtp.placement == MtpConfig::Placement::stage_per_depth;
  parts.emplace(apart ? "main_head" : "heads", heads);
  for (int depth = 1; depth <= plan_.layout.depth_stages; ++depth)
    parts.emplace("depth_" + std::to_string(depth), times_of({head + depth}));
  return parts;
}

double ShortModel::start() const {
  std::vector<double> all;
  for (const Step& step : steps_) all.push_back(step.start);
  return median(std::move(all));
}

double ShortModel::host() const {
  std::vector<double> all;
  for (const Step& step : steps_) all.push_back(step.host);
  return median(std::move(all));
}

}  // namespace foretoken

#include "launch/config/options.h"

#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/config/choice_names.h"
#include "launch/config/option_section.h"
#include "model/config_names.h"
#include "model/heads/head_facts.h"
#include "parallel/pipeline/schedules.h"

namespace foretoken {
namespace {

using detail::Section;

OptionDomain at_least(double min) {
  return {fmt::format("at least {}", min), [=](double x) { return x >= min; }};
}

OptionDomain within(double min, double max) {
  return {fmt::format("{} to {}", min, max), [=](double x) { return x >= min && x <= max; }};
}

OptionDomain below(double min, double limit) {
  return {fmt::format("at least {} and below {}", min, limit),
          [=](double x) { return x >= min && x < limit; }};
}

OptionDomain above(double limit, double max) {
  return {fmt::format("above {} and at most {}", limit, max),
          [=](double x) { return x > limit && x <= max; }};
}

OptionDomain halves(double min, double max) {
  return {fmt::format("multiples of 0.5, {} to {}", min, max),
          [=](double x) { return x >= min && x <= max && std::floor(2 * x) == 2 * x; }};
}

OptionDomain positive() {
  return {"positive", [](double x) { return x > 0; }};
}

// The upper bounds keep every product of sizes far below 2^63.

void add_model(std::vector<Option>& table) {
  Section model(table, "model", &Config::model);
  using M = ModelConfig;
  model.add("hidden_size", &M::hidden_size, within(1, 1048576), "width of the hidden state");
  model.add("num_hidden_layers", &M::num_hidden_layers, within(1, 8192),
            "decoder layers, prediction heads not counted");
  model.add("num_attention_heads", &M::num_attention_heads, within(1, 65536), "query heads");
  model
      .add("num_key_value_heads", &M::num_key_value_heads, within(1, 65536),
           "key and value heads; divides the query heads; unless set num_attention_heads")
      .derivation = {.inputs = {"model.num_attention_heads"},
                     .value = [](const Config& config) { return config.model.num_attention_heads; }};
  model
      .add("head_dim", &M::head_dim, within(2, 65536),
           "size of a head, even; unless set hidden_size / num_attention_heads")
      .derivation = {.inputs = {"model.hidden_size", "model.num_attention_heads"},
                     .value = [](const Config& config) {
                       return config.model.hidden_size / config.model.num_attention_heads;
                     }};
  model
      .add("intermediate_size", &M::intermediate_size, within(1, 16777216),
           "inner width of the SwiGLU MLP; unless set 2.75 × hidden_size")
      .derivation = {.inputs = {"model.hidden_size"},
                     .value = [](const Config& config) { return (11 * config.model.hidden_size + 3) / 4; }};
  model.add("vocab_size", &M::vocab_size, within(2, 16777216),
            "size of the vocabulary; at least the dataset's");
  model.add("max_position_embeddings", &M::max_position_embeddings, within(1, 16777216),
            "longest sequence the model is meant for");
  model.add("rms_norm_eps", &M::rms_norm_eps, positive(), "added to the mean square inside RMSNorm");
  model.add("rope_theta", &M::rope_theta, positive(), "base of the rotary position embedding");
  model.add("initializer_range", &M::initializer_range, positive(),
            "initial standard deviation of every matrix");
  model.add("tie_word_embeddings", &M::tie_word_embeddings, "the output head is the embedding table");
  for (Option& option : table) option.fixed = true;
}

/// "a chain of MTP modules, …, or output matrices alone".
std::string kinds_in_words() {
  std::vector<std::string> kinds;
  for (const auto kind : enumerators<MtpConfig::Kind>()) kinds.emplace_back(head_facts(kind).description);
  kinds.back() = "or " + kinds.back();
  return fmt::format("{}", fmt::join(kinds, ", "));
}

void add_mtp(std::vector<Option>& table) {
  Section mtp(table, "mtp", &Config::mtp);
  using M = MtpConfig;
  mtp.add("kind", &M::kind, "prediction heads: " + kinds_in_words()).fixed = true;
  mtp.add("depths", &M::depths, within(0, 64),
          "prediction heads in addition to the main one; each predicts one token further ahead")
      .fixed = true;
  mtp.add("repeat", &M::repeat, "sequential: one module, applied at every depth").fixed = true;
  mtp.add("concat", &M::concat,
          "sequential: which half of a module's input projection comes first: as in DeepSeek-V3's released "
          "weights, or as in eq. 21 of its paper")
      .fixed = true;
  mtp.add("trunk_hidden", &M::trunk_hidden,
          "sequential: the first module reads the trunk's output after or before the final norm")
      .fixed = true;
  mtp.add("recycled_hidden", &M::recycled_hidden,
          "sequential: the next module reads a module's output after or before that module's norm")
      .fixed = true;
  mtp.add("residual_form", &M::residual_form,
          "residual: a step embedding and an MLP with GELU, or Medusa's one layer with SiLU")
      .fixed = true;
  mtp.add("own_output", &M::own_output,
          "residual: every depth has its own output matrix, initialized as a copy of the model's")
      .fixed = true;
  mtp.add("detach_heads", &M::detach_heads,
          "the heads' losses give no gradient to the main model: trunk, embedding, output matrix");
  mtp.add("placement", &M::placement,
          "heads on the last stage, on a last stage without trunk layers, or each depth on a later stage of "
          "its own");
  mtp.add("main_weight", &M::main_weight, positive(), "weight of the main loss");
  mtp.add("loss_weight", &M::loss_weight, at_least(0),
          "λ: the heads' mean loss is added to the main loss with this weight");
  mtp.add(
      "weighting", &M::weighting,
      "weight of a depth's loss: loss_weight / depths, depth_weights, or auxiliary_factor / tokens ahead");
  mtp.add("depth_weights", &M::depth_weights, at_least(0), "per_depth: one weight for each depth");
  mtp.add("auxiliary_factor", &M::auxiliary_factor, at_least(0),
          "inverse_distance: depth k has this weight / (k + 1)");
  mtp.add("schedule", &M::schedule, at_least(0),
          "[tokens seen, factor]: from that point on, weights are multiplied by the factor; empty: never");
  mtp.add("schedule_form", &M::schedule_form,
          "between two points of the schedule: the earlier point's factor, or the value on the line between "
          "them");
  mtp.add(
      "balance", &M::balance,
      "constant weights; weights that follow gradient norms at the trunk; or depths sampled per microbatch");
  mtp.add("balance_ratio", &M::balance_ratio, positive(),
          "dynamic: a depth's gradient norm at the trunk, divided by the main loss's");
  mtp.add("sample_probabilities", &M::sample_probabilities, above(0, 1),
          "sampling: one probability for each depth; for sequential heads, not above the previous depth's");
  mtp.add("diagnose_every", &M::diagnose_every, at_least(0),
          "steps between measurements of gradients at the trunk and of acceptance, 0: never");
}

void add_data(std::vector<Option>& table) {
  Section data(table, "data", &Config::data);
  using D = DataConfig;
  data.add("path", &D::path, "token dataset to train on, as `foretoken tokenize` writes it").path = true;
  data.add("validation_path", &D::validation_path, "token dataset for evaluations while training").path =
      true;
  data.add("sequence_length", &D::sequence_length, within(1, 16777216), "tokens of a row").fixed =
      true;  // a sample is a row of this length: the stored position in the data counts samples
  data.add("attention", &D::attention, "attention stays inside a document, or covers the whole row");
}

void add_train(std::vector<Option>& table) {
  Section train(table, "train", &Config::train);
  using T = TrainConfig;
  train.add("steps", &T::steps, at_least(1), "optimizer steps of the whole run");
  train.add("global_batch", &T::global_batch, within(1, 16777216), "rows of a step, over all ranks");
  train.add("microbatch", &T::microbatch, within(1, 65536), "rows that pass the pipeline together");
  train.add("seed", &T::seed, at_least(0), "seed of initial weights and data order");
  train
      .add("init_from", &T::init_from,
           "run or checkpoint whose weights a new run starts from, as --from sets it; heads that it lacks or "
           "has of another kind are newly initialized")
      .path = true;
  train
      .add("freeze", &T::freeze,
           "what is not trained: nothing, or everything except the prediction heads, which are then detached")
      .fixed = true;
  train.add(
      "precision", &T::precision,
      "dtype that layers compute in, over f32 values; auto: bf16 on GPUs, f32 on CPUs; fp8: as auto, and "
      "the matrix products of layers and modules in FP8");
  train.add("recompute", &T::recompute,
            "what backward recomputes to save memory: nothing, outputs of norms and gates, or whole layers");
  train.add("deterministic", &T::deterministic, "bitwise reproducible on GPUs too, but slower");
  train.add("skip_limit", &T::skip_limit, at_least(0),
            "consecutive steps that may be skipped because loss or gradient norm is not finite; one more "
            "ends the run with code 4");
  train.add("replay_suspicious", &T::replay_suspicious,
            "compute a step twice before its update if its numbers are unusual or not finite");
  train.add("replay_z", &T::replay_z, positive(),
            "standard deviations from which a loss or gradient norm is unusual");
  train.add("evaluate_every", &T::evaluate_every, at_least(0),
            "steps between evaluations on data.validation_path, 0: never");
  train.add("evaluate_rows", &T::evaluate_rows, at_least(1), "rows of each evaluation");
  train.add("trace_step", &T::trace_step, at_least(0),
            "step whose timeline is written to the run's folder, for Perfetto; 0: none");
}

void add_fp8(std::vector<Option>& table) {
  Section fp8(table, "fp8", &Config::fp8);
  using F = Fp8Config;
  fp8.add("recipe", &F::recipe,
          "precision fp8: one scale for each tensor, or for 1 × 128 values and 128 × 128 weights");
  fp8.add("first_layers_bf16", &F::first_layers_bf16, at_least(0),
          "precision fp8: first layers of the model whose products stay in bf16");
  fp8.add("last_layers_bf16", &F::last_layers_bf16, at_least(0),
          "precision fp8: last layers of the model whose products stay in bf16");
}

void add_optimizer(std::vector<Option>& table) {
  Section optimizer(table, "optimizer", &Config::optimizer);
  using O = OptimizerSettings;
  optimizer.add("lr", &O::lr, positive(), "peak learning rate of AdamW");
  optimizer.add("beta1", &O::beta1, below(0, 1), "decay of the first moment");
  optimizer.add("beta2", &O::beta2, below(0, 1), "decay of the second moment");
  optimizer.add("eps", &O::eps, positive(), "added to the square root of the second moment");
  optimizer.add("weight_decay", &O::weight_decay, at_least(0),
                "decoupled weight decay; not applied to norms and step embeddings");
  optimizer.add("clip", &O::clip, at_least(0), "largest global gradient norm, 0: no limit");
  optimizer.add("moments", &O::moments,
                "dtype that AdamW's moments are kept in; bf16 takes half the memory, rounded stochastically");
  optimizer.add(
      "heads_clip", &O::heads_clip, at_least(0),
      "largest gradient norm of the prediction heads, apart from the main model's; 0: one norm over all");
  optimizer.add("schedule", &O::schedule,
                "learning rate after the warm-up: constant, cosine decay, or stable and then a linear decay");
  optimizer.add("warmup_steps", &O::warmup_steps, at_least(0), "steps of linear warm-up");
  optimizer.add(
      "decay_steps", &O::decay_steps, at_least(0),
      "length of the decay, which for wsd ends with the run; 0: cosine decays from the warm-up to the end");
  optimizer.add("min_lr_ratio", &O::min_lr_ratio, within(0, 1),
                "learning rate at the end of the decay, divided by lr");
}

void add_parallel(std::vector<Option>& table) {
  Section parallel(table, "parallel", &Config::parallel);
  using P = ParallelConfig;
  parallel.add("pp", &P::pp, within(1, 65536), "pipeline ranks");
  parallel.add("dp", &P::dp, within(0, 65536), "data-parallel replicas of the pipeline, 0: world size / pp");
  parallel.add("virtual_stages", &P::virtual_stages, within(1, 1024), "stages per pipeline rank");
  parallel.add("schedule", &P::schedule, schedule_names(), "pipeline program");
  parallel.add(
      "elastic", &P::elastic,
      "if pp × dp does not fit the number of ranks, use the valid layout with the shortest simulated step");
  parallel.add("sharded_optimizer", &P::sharded_optimizer,
               "each data-parallel rank keeps and updates its part of the optimizer state");
  parallel.add("bucket_mib", &P::bucket_mib, within(1, 65536), "size of a gradient reduction, MiB");
  parallel.add("blocks_per_stage", &P::blocks_per_stage, halves(0, 65536),
               "decoder layers of every stage in order, half a layer is its attention or its MLP; empty: "
               "assigned by cost");
  parallel
      .add("profile", &P::profile,
           "device profile of `foretoken plan --measure`, whose times assign layers to stages; empty: "
           "estimated costs")
      .path = true;
  parallel.add("threads", &P::threads, within(0, 4096),
               "threads per rank, 0: its share of the cores that it may use");
  parallel.add("timeout_seconds", &P::timeout_seconds, at_least(1),
               "a communication in a step that takes longer ends the run");
  parallel.add("startup_seconds", &P::startup_seconds, at_least(1),
               "the same limit before the first step, while ranks open and load files");
  parallel.add(
      "check_replicas_every", &P::check_replicas_every, at_least(0),
      "steps between comparisons of replicated weights, 0: only at start-up, on resume and at saves");
  parallel.add("check_state_every", &P::check_state_every, at_least(0),
               "steps between checks that a rank's weights and moments keep their bits from one update to "
               "the next, 0: never");
}

void add_checkpoint(std::vector<Option>& table) {
  Section checkpoint(table, "checkpoint", &Config::checkpoint);
  using C = CheckpointConfig;
  checkpoint.add("every", &C::every, at_least(0), "steps between checkpoints, 0: none by steps");
  checkpoint.add(
      "every_minutes", &C::every_minutes, at_least(0),
      "minutes between checkpoints, 0: none by time; the end of a run and a stop request always write one");
  checkpoint.add(
      "timeout_seconds", &C::timeout_seconds, at_least(1),
      "a save in which no rank writes a byte for this long ends the run; a save that makes progress may take "
      "any time");
  checkpoint.add("keep", &C::keep, at_least(1), "number of newest checkpoints that are kept");
}

void add_run(std::vector<Option>& table) {
  Section run(table, "run", &Config::run);
  using R = RunConfig;
  run.add("directory", &R::directory, "folder in which run folders are created").path = true;
  run.add("name", &R::name, "first part of the run folder's name; the time (UTC) follows");
  run.add("log_every", &R::log_every, at_least(1),
          "steps between lines on the console; the first, the last and unusual steps have a line anyway, and "
          "metrics.jsonl has every step");
  run.add("device", &R::device, "where ranks compute; auto: on GPUs if every rank sees one");
}

void add_metrics(std::vector<Option>& table) {
  Section metrics(table, "metrics", &Config::metrics);
  using M = MetricsConfig;
  metrics.add("tensorboard", &M::tensorboard,
              "TensorBoard event files in the run's folder tensorboard/, in addition to metrics.jsonl");
  metrics
      .add("prometheus", &M::prometheus,
           "file NAME.prom in Prometheus' text format, replaced at most once a second, for the textfile "
           "collector of node_exporter; empty: none")
      .path = true;
  metrics.add("nvtx", &M::nvtx,
              "mark the pipeline's actions, reductions, the optimizer and checkpoints as NVTX ranges, for "
              "Nsight Systems; needs a build with CUDA");
}

std::vector<Option> make_table() {
  std::vector<Option> table;
  add_model(table);
  add_mtp(table);
  add_data(table);
  add_train(table);
  add_fp8(table);
  add_optimizer(table);
  add_parallel(table);
  add_checkpoint(table);
  add_run(table);
  add_metrics(table);
  return table;
}

}  // namespace

const std::vector<Option>& options() {
  static const std::vector<Option> table = make_table();
  return table;
}

const Option* find_option(std::string_view section, std::string_view key) {
  for (const Option& option : options())
    if (option.section == section && option.key == key) return &option;
  return nullptr;
}

}  // namespace foretoken

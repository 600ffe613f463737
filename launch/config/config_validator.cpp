#include "launch/config/config_validator.h"

#include <filesystem>

#include <fmt/format.h>

#include "io/files/utf8.h"
#include "launch/config/config_loader.h"
#include "launch/config/layout.h"
#include "launch/config/options.h"
#include "model/heads/head_facts.h"
#include "model/objective.h"
#include "parallel/pipeline/schedules.h"
#include "runtime/backend.h"
#include "runtime/enum_names.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {
namespace {

/// Runs a check. If it throws a UsageError, adds the places that set these options to the end of its
/// message.
template <class Check>
void with_origin(const Config& config, std::initializer_list<std::string_view> names, const Check& check) {
  try {
    check();
  } catch (const UsageError& error) {
    throw usage_error(config, names, "{}", error.what());
  }
}

/// Texts must be UTF-8, because config.toml and the manifests of checkpoints store them.
void validate_texts(const Config& config) {
  for (const Option& option : options()) {
    if (option.type != Option::Type::text) continue;
    require_utf8(option.name(), std::get<std::string>(option.get(config)));
  }
}

void validate_model(const Config& config) {
  const ModelConfig& model = config.model;
  if (model.num_attention_heads % model.num_key_value_heads != 0)
    throw usage_error(config, {"model.num_attention_heads", "model.num_key_value_heads"},
                      "model: num_attention_heads {} is not a multiple of num_key_value_heads {}",
                      model.num_attention_heads, model.num_key_value_heads);
  const bool follows =
      !config.origins.contains("model.head_dim") &&
      (config.origins.contains("model.hidden_size") || config.origins.contains("model.num_attention_heads"));
  if (follows && model.hidden_size % model.num_attention_heads != 0)
    throw usage_error(config, {"model.hidden_size", "model.num_attention_heads"},
                      "model: hidden_size {} is not a multiple of num_attention_heads {}: set model.head_dim",
                      model.hidden_size, model.num_attention_heads);
  if (model.head_dim % 2 != 0)
    throw usage_error(config, {"model.head_dim", "model.hidden_size", "model.num_attention_heads"},
                      "model: head_dim {} is odd, but rotary embedding rotates pairs of elements",
                      model.head_dim);
}

/// Refuses a non-default value of a setting that the chosen kind of heads does not have, because it would be
/// ignored.
void validate_mtp(const Config& config) {
  const Config standard;
  const auto belong_to = [&](const char* key, const std::string& choice,
                             const std::vector<const char*>& others) {
    const Option& chooser = *find_option("mtp", key);
    const OptionValue chosen = chooser.get(config);
    if (std::get<std::string>(chosen) == choice) return;
    for (const char* other : others) {
      const Option& option = *find_option("mtp", other);
      if (option.get(config) != option.get(standard))
        throw usage_error(config, {option.name(), chooser.name()},
                          "mtp: {} = {} belongs to {} \"{}\", but {} is {}", other,
                          to_toml(option.get(config)), key, choice, key, to_toml(chosen));
    }
  };
  for (const auto kind : enumerators<MtpConfig::Kind>())
    belong_to("kind", std::string(name_of(kind)), head_facts(kind).settings);
  belong_to("weighting", "mean", {"loss_weight"});
  belong_to("weighting", "per_depth", {"depth_weights"});
  belong_to("weighting", "inverse_distance", {"auxiliary_factor"});
  belong_to("balance", "dynamic", {"balance_ratio"});
  belong_to("balance", "sampling", {"sample_probabilities"});
  with_origin(config,
              {"mtp.weighting", "mtp.depth_weights", "mtp.schedule", "mtp.schedule_form", "mtp.balance",
               "mtp.sample_probabilities", "mtp.diagnose_every", "mtp.depths", "mtp.kind", "mtp.detach_heads",
               "train.freeze"},
              [&] {
                MtpConfig mtp = config.mtp;
                mtp.detach_heads |= config.train.freeze == TrainConfig::Freeze::trunk;
                validate_objective(mtp);
              });
}

void validate_heads_training(const Config& config) {
  const bool frozen = config.train.freeze == TrainConfig::Freeze::trunk;
  if (frozen && config.mtp.depths == 0)
    throw usage_error(config, {"train.freeze", "mtp.depths"},
                      "train: freeze \"trunk\" leaves nothing to train: mtp.depths is 0");
  if (frozen && config.train.init_from.empty())
    throw usage_error(
        config, {"train.freeze", "train.init_from"},
        "train: freeze \"trunk\" needs train.init_from, a run or checkpoint with a trained trunk");
  if (config.optimizer.heads_clip > 0 && config.mtp.depths == 0)
    throw usage_error(config, {"optimizer.heads_clip", "mtp.depths"},
                      "optimizer: heads_clip {} has nothing to clip: mtp.depths is 0",
                      config.optimizer.heads_clip);
}

void validate_data(const Config& config) {
  if (config.data.path.empty())
    throw usage_error(config, {"data.path"},
                      "data: path is not set: name a token dataset, --set data.path=data.h5");
  if (config.data.sequence_length > config.model.max_position_embeddings)
    throw usage_error(config, {"data.sequence_length", "model.max_position_embeddings"},
                      "data: sequence_length {} is longer than model.max_position_embeddings {}",
                      config.data.sequence_length, config.model.max_position_embeddings);
  if (config.train.evaluate_every > 0 && config.data.validation_path.empty())
    throw usage_error(config, {"train.evaluate_every", "data.validation_path"},
                      "train: evaluate_every {} needs data.validation_path, which is not set",
                      config.train.evaluate_every);
}

void validate_batch(const Config& config) {
  const TrainConfig& train = config.train;
  if (train.global_batch % train.microbatch != 0)
    throw usage_error(config, {"train.global_batch", "train.microbatch"},
                      "train: global_batch {} is not a multiple of microbatch {}", train.global_batch,
                      train.microbatch);
}

/// FP8 products require dims that are multiples of a group of elements (runtime/quantized_tensor.h).
void validate_fp8(const Config& config) {
  if (config.train.precision != TrainConfig::Precision::fp8) return;
  if (config.train.recompute == Recompute::selective)
    throw usage_error(config, {"train.precision", "train.recompute"},
                      "train: precision \"fp8\" keeps the 8-bit inputs of products: expected recompute "
                      "\"none\" or \"full\", found \"selective\"");
  const ModelConfig& model = config.model;
  const std::int64_t multiple = config.fp8.recipe == Fp8Recipe::tensor ? 16 : 128;
  const auto require = [&](const char* what, std::int64_t value,
                           std::initializer_list<std::string_view> keys) {
    if (value % multiple != 0)
      throw usage_error(
          config, keys,
          "train: precision \"fp8\" with recipe \"{}\" needs {} that are multiples of {}, found {}",
          config.fp8.recipe == Fp8Recipe::tensor ? "tensor" : "block", what, multiple, value);
  };
  require("hidden sizes", model.hidden_size, {"train.precision", "model.hidden_size"});
  require("inner widths", model.intermediate_size, {"train.precision", "model.intermediate_size"});
  require("query widths (num_attention_heads × head_dim)", model.num_attention_heads * model.head_dim,
          {"train.precision", "model.num_attention_heads", "model.head_dim"});
  require("query, key and value widths together",
          (model.num_attention_heads + 2 * model.num_key_value_heads) * model.head_dim,
          {"train.precision", "model.num_key_value_heads", "model.head_dim"});
  require("tokens of a microbatch (microbatch × sequence_length)",
          config.train.microbatch * config.data.sequence_length,
          {"train.precision", "train.microbatch", "data.sequence_length"});
}

void validate_learning_rate(const Config& config) {
  const OptimizerSettings& optimizer = config.optimizer;
  // Compared by subtraction, so that huge step counts do not overflow.
  if (optimizer.warmup_steps > config.train.steps ||
      optimizer.decay_steps > config.train.steps - optimizer.warmup_steps)
    throw usage_error(config, {"optimizer.warmup_steps", "optimizer.decay_steps", "train.steps"},
                      "optimizer: warmup_steps {} and decay_steps {} do not fit into train.steps {}",
                      optimizer.warmup_steps, optimizer.decay_steps, config.train.steps);
  if (optimizer.schedule == OptimizerSettings::Schedule::wsd && optimizer.decay_steps == 0)
    throw usage_error(config, {"optimizer.schedule", "optimizer.decay_steps"},
                      "optimizer: schedule \"wsd\" needs decay_steps, found 0");
}

void validate_pipeline(const Config& config) {
  const ParallelConfig& parallel = config.parallel;
  // Checked first: every stage gets a layer, which bounds the number of stages.
  const Grid grid{.pp = parallel.pp, .virtual_stages = parallel.virtual_stages};
  with_origin(config,
              {"parallel.blocks_per_stage", "mtp.placement", "mtp.depths", "parallel.pp",
               "parallel.virtual_stages", "model.num_hidden_layers"},
              [&] { validate_layout(config, grid); });
  // Whether a schedule accepts these stages does not depend on the number of microbatches.
  with_origin(config, {"parallel.schedule", "parallel.virtual_stages", "parallel.pp"}, [&] {
    const Program program =
        make_program(parallel.schedule, {.pp = parallel.pp, .virtual_stages = parallel.virtual_stages});
    if (config.train.recompute == Recompute::full && has_split_backward(program))
      throw UsageError(
          "parallel: schedule \"{}\" delays weight gradients, which is not possible with recompute \"full\"",
          parallel.schedule);
  });
}

void validate_run(const Config& config) {
  const std::string& name = config.run.name;
  if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos)
    throw usage_error(
        config, {"run.name"},
        "run: name \"{}\" cannot name a folder: expected no '/', no '.' at the beginning, and not empty",
        name);
  if (config.run.directory.empty()) throw usage_error(config, {"run.directory"}, "run: directory is empty");
  if (config.run.device == RunConfig::Device::cuda && !with_cuda)
    throw usage_error(config, {"run.device"},
                      "run: device \"cuda\": this program was built without a CUDA backend");
}

void validate_metrics(const Config& config) {
  const std::filesystem::path file = config.metrics.prometheus;
  if (!file.empty() && file.extension() != ".prom")
    throw usage_error(config, {"metrics.prometheus"},
                      "metrics: prometheus {} is not read by node_exporter: expected a file NAME.prom",
                      file.string());
}

}  // namespace

void validate(const Config& config) {
  validate_texts(config);
  validate_model(config);
  validate_mtp(config);
  validate_heads_training(config);
  validate_data(config);
  validate_batch(config);
  validate_fp8(config);
  validate_learning_rate(config);
  validate_pipeline(config);
  validate_run(config);
  validate_metrics(config);
}

Grid resolve_grid(const Config& config, int world_size) {
  Grid grid{config.parallel.pp, config.parallel.dp, config.parallel.virtual_stages};
  if (grid.dp == 0) {
    if (world_size % grid.pp != 0)
      throw usage_error(config, {"parallel.pp", "parallel.dp"},
                        "parallel: pp {} does not divide the world of {}", grid.pp,
                        counted(world_size, "rank"));
    grid.dp = world_size / grid.pp;
  }
  with_origin(config, {"parallel.pp", "parallel.dp"}, [&] { validate(grid, world_size); });
  const TrainConfig& train = config.train;
  const std::int64_t product = std::int64_t{grid.dp} * train.microbatch;
  if (train.global_batch % product != 0)
    throw usage_error(config, {"train.global_batch", "train.microbatch", "parallel.dp", "parallel.pp"},
                      "train: global_batch {} is not a multiple of dp {} × microbatch {} = {}",
                      train.global_batch, grid.dp, train.microbatch, product);
  with_origin(
      config,
      {"train.global_batch", "train.microbatch", "parallel.pp", "parallel.dp", "parallel.virtual_stages"},
      [&] { validate_step(config, grid); });
  return grid;
}

void validate_vocabulary(const Config& config, std::int64_t dataset_vocab_size, const std::string& dataset) {
  if (dataset_vocab_size > config.model.vocab_size)
    throw usage_error(config, {"model.vocab_size"},
                      "model: vocab_size {} is smaller than the vocabulary of {}, which has {} tokens",
                      config.model.vocab_size, dataset, dataset_vocab_size);
}

void validate_resumed(const Config& before, const Config& config) {
  for (const Option& option : options()) {
    if (!option.fixed) continue;
    const OptionValue was = option.get(before);
    const OptionValue is = option.get(config);
    if (was != is)
      throw usage_error(config, {option.name()}, "{}: the run that is resumed has {}, found {}",
                        option.name(), to_toml(was), to_toml(is));
  }
}

}  // namespace foretoken

#include "launch/config/config_validator.h"

#include <fmt/format.h>

#include "io/files/utf8.h"
#include "launch/config/config_loader.h"
#include "launch/config/layout.h"
#include "launch/config/options.h"
#include "model/objective.h"
#include "parallel/pipeline/schedules.h"
#include "runtime/backend.h"
#include "runtime/error.h"

namespace foretoken {
namespace {

/// Runs a check of another room and prefixes its UsageErrors with where these options were set.
template <class Check>
void with_origin(const Config& config, std::initializer_list<std::string_view> names, const Check& check) {
  try {
    check();
  } catch (const UsageError& error) {
    throw UsageError("{}{}", origin_of(config, names), error.what());
  }
}

/// config.toml and the manifests of checkpoints store every setting as UTF-8.
void validate_texts(const Config& config) {
  for (const Option& option : options()) {
    if (option.type != Option::Type::text) continue;
    require_utf8(option.name(), std::get<std::string>(option.get(config)));
  }
}

void validate_model(const Config& config) {
  const ModelConfig& model = config.model;
  if (model.num_attention_heads % model.num_key_value_heads != 0)
    throw UsageError("{}model: num_attention_heads {} is not a multiple of num_key_value_heads {}",
                     origin_of(config, {"model.num_attention_heads", "model.num_key_value_heads"}),
                     model.num_attention_heads, model.num_key_value_heads);
  if (model.head_dim % 2 != 0)
    throw UsageError("{}model: head_dim {} is odd, but rotary embedding turns pairs",
                     origin_of(config, {"model.head_dim"}), model.head_dim);
}

/// A setting that the chosen kind does not have would be ignored, so a non-default value is refused.
void validate_mtp(const Config& config) {
  const Config standard;
  const auto belong_to = [&](const char* key, const std::string& choice,
                             std::initializer_list<const char*> others) {
    const Option& chooser = *find_option("mtp", key);
    const OptionValue chosen = chooser.get(config);
    if (std::get<std::string>(chosen) == choice) return;
    for (const char* other : others) {
      const Option& option = *find_option("mtp", other);
      if (option.get(config) != option.get(standard))
        throw UsageError("{}mtp: {} = {} belongs to {} \"{}\", but {} is {}",
                         origin_of(config, {option.name(), chooser.name()}), other,
                         to_toml(option.get(config)), key, choice, key, to_toml(chosen));
    }
  };
  belong_to("kind", "sequential", {"repeat", "concat", "trunk_hidden", "recycled_hidden"});
  belong_to("kind", "residual", {"residual_form", "own_output"});
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
    throw UsageError("{}train: freeze \"trunk\" leaves nothing to train: mtp.depths is 0",
                     origin_of(config, {"train.freeze", "mtp.depths"}));
  if (frozen && config.train.init_from.empty())
    throw UsageError(
        "{}train: freeze \"trunk\" needs train.init_from, a run or checkpoint with a trained trunk",
        origin_of(config, {"train.freeze", "train.init_from"}));
  if (config.optimizer.heads_clip > 0 && config.mtp.depths == 0)
    throw UsageError("{}optimizer: heads_clip {} has nothing to clip: mtp.depths is 0",
                     origin_of(config, {"optimizer.heads_clip", "mtp.depths"}), config.optimizer.heads_clip);
}

void validate_data(const Config& config) {
  if (config.data.path.empty())
    throw UsageError("{}data: path is not set: name a token dataset, --set data.path=data.h5",
                     origin_of(config, {"data.path"}));
  if (config.data.sequence_length > config.model.max_position_embeddings)
    throw UsageError("{}data: sequence_length {} is longer than model.max_position_embeddings {}",
                     origin_of(config, {"data.sequence_length", "model.max_position_embeddings"}),
                     config.data.sequence_length, config.model.max_position_embeddings);
  if (config.train.evaluate_every > 0 && config.data.validation_path.empty())
    throw UsageError("{}train: evaluate_every {} needs data.validation_path, which is not set",
                     origin_of(config, {"train.evaluate_every", "data.validation_path"}),
                     config.train.evaluate_every);
}

void validate_batch(const Config& config) {
  const TrainConfig& train = config.train;
  if (train.global_batch % train.microbatch != 0)
    throw UsageError("{}train: global_batch {} is not a multiple of microbatch {}",
                     origin_of(config, {"train.global_batch", "train.microbatch"}), train.global_batch,
                     train.microbatch);
}

/// FP8 products require dims that are multiples of a group of elements
/// (runtime/operators/rowwise/quantize.h).
void validate_fp8(const Config& config) {
  if (config.train.precision != TrainConfig::Precision::fp8) return;
  if (config.train.recompute == Recompute::selective)
    throw UsageError(
        "{}train: precision \"fp8\" keeps 8-bit inputs of products, which recompute \"selective\" would not: "
        "\"none\" or \"full\" expected",
        origin_of(config, {"train.precision", "train.recompute"}));
  const ModelConfig& model = config.model;
  const std::int64_t multiple = config.fp8.recipe == Fp8Recipe::tensor ? 16 : 128;
  const auto require = [&](const char* what, std::int64_t value,
                           std::initializer_list<std::string_view> keys) {
    if (value % multiple != 0)
      throw UsageError(
          "{}train: precision \"fp8\" with recipe \"{}\" needs {} that are multiples of {}, found {}",
          origin_of(config, keys), config.fp8.recipe == Fp8Recipe::tensor ? "tensor" : "block", what,
          multiple, value);
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
    throw UsageError("{}optimizer: warmup_steps {} and decay_steps {} do not fit into train.steps {}",
                     origin_of(config, {"optimizer.warmup_steps", "optimizer.decay_steps", "train.steps"}),
                     optimizer.warmup_steps, optimizer.decay_steps, config.train.steps);
  if (optimizer.schedule == OptimizerSettings::Schedule::wsd && optimizer.decay_steps == 0)
    throw UsageError("{}optimizer: schedule \"wsd\" needs decay_steps, found 0",
                     origin_of(config, {"optimizer.schedule", "optimizer.decay_steps"}));
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
          "parallel: schedule \"{}\" takes weight gradients late, which recompute \"full\" forbids",
          parallel.schedule);
  });
}

void validate_run(const Config& config) {
  const std::string& name = config.run.name;
  if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos)
    throw UsageError("{}run: name \"{}\" cannot name a folder: no '/', no '.' in front, not empty",
                     origin_of(config, {"run.name"}), name);
  if (config.run.directory.empty())
    throw UsageError("{}run: directory is empty", origin_of(config, {"run.directory"}));
  if (config.run.device == RunConfig::Device::cuda && !with_cuda)
    throw UsageError("{}run: device \"cuda\": this program was built without a CUDA backend",
                     origin_of(config, {"run.device"}));
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
}

Grid resolve_grid(const Config& config, int world_size) {
  const std::string origin = origin_of(config, {"parallel.pp", "parallel.dp"});
  Grid grid{config.parallel.pp, config.parallel.dp, config.parallel.virtual_stages};
  if (grid.dp == 0) {
    if (world_size % grid.pp != 0)
      throw UsageError("{}parallel: pp {} does not divide the world of {} rank{}", origin, grid.pp,
                       world_size, world_size == 1 ? "" : "s");
    grid.dp = world_size / grid.pp;
  }
  with_origin(config, {"parallel.pp", "parallel.dp"}, [&] { validate(grid, world_size); });
  const TrainConfig& train = config.train;
  const std::int64_t product = std::int64_t{grid.dp} * train.microbatch;
  if (train.global_batch % product != 0)
    throw UsageError(
        "{}train: global_batch {} is not a multiple of dp {} × microbatch {} = {}",
        origin_of(config, {"train.global_batch", "train.microbatch", "parallel.dp", "parallel.pp"}),
        train.global_batch, grid.dp, train.microbatch, product);
  with_origin(
      config,
      {"train.global_batch", "train.microbatch", "parallel.pp", "parallel.dp", "parallel.virtual_stages"},
      [&] { validate_step(config, grid); });
  return grid;
}

void validate_vocabulary(const Config& config, std::int64_t dataset_vocab_size, const std::string& dataset) {
  if (dataset_vocab_size > config.model.vocab_size)
    throw UsageError("{}model: vocab_size {} is smaller than the vocabulary of {}, which has {} tokens",
                     origin_of(config, {"model.vocab_size"}), config.model.vocab_size, dataset,
                     dataset_vocab_size);
}

void validate_resumed(const Config& before, const Config& config) {
  for (const Option& option : options()) {
    if (!option.fixed) continue;
    const OptionValue was = option.get(before);
    const OptionValue is = option.get(config);
    if (was != is)
      throw UsageError("{}{}: the run that is resumed has {}, found {}", origin_of(config, {option.name()}),
                       option.name(), to_toml(was), to_toml(is));
  }
}

}  // namespace foretoken

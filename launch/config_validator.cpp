#include "launch/config_validator.h"

#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/config_loader.h"
#include "launch/options.h"
#include "runtime/error.h"

namespace foretoken {
namespace {

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

void validate_schedules(const Config& config) {
  const OptimizerSettings& optimizer = config.optimizer;
  // Of the subtraction, so that absurd step counts do not overflow.
  if (optimizer.warmup_steps > config.train.steps ||
      optimizer.decay_steps > config.train.steps - optimizer.warmup_steps)
    throw UsageError("{}optimizer: warmup_steps {} and decay_steps {} do not fit into train.steps {}",
                     origin_of(config, {"optimizer.warmup_steps", "optimizer.decay_steps", "train.steps"}),
                     optimizer.warmup_steps, optimizer.decay_steps, config.train.steps);
  if (optimizer.schedule == OptimizerSettings::Schedule::wsd && optimizer.decay_steps == 0)
    throw UsageError("{}optimizer: schedule \"wsd\" needs decay_steps, found 0",
                     origin_of(config, {"optimizer.schedule", "optimizer.decay_steps"}));
  const ParallelConfig& parallel = config.parallel;
  const bool interleaved = parallel.schedule == "interleaved_1f1b";
  const bool takes_one = parallel.schedule == "1f1b" || parallel.schedule == "zero_bubble_h1";
  if ((interleaved && parallel.virtual_stages < 2) || (takes_one && parallel.virtual_stages > 1))
    throw UsageError("{}parallel: schedule \"{}\" needs {}, found virtual_stages {}",
                     origin_of(config, {"parallel.schedule", "parallel.virtual_stages"}), parallel.schedule,
                     interleaved ? "virtual_stages of 2 or more" : "virtual_stages 1",
                     parallel.virtual_stages);
}

void validate_stages(const Config& config) {
  const ParallelConfig& parallel = config.parallel;
  const std::int64_t stages = std::int64_t{parallel.pp} * parallel.virtual_stages;
  const std::vector<int>& blocks = parallel.blocks_per_stage;
  if (blocks.empty()) return;
  const std::string origin =
      origin_of(config, {"parallel.blocks_per_stage", "parallel.pp", "parallel.virtual_stages"});
  if (static_cast<std::int64_t>(blocks.size()) != stages)
    throw UsageError("{}parallel: blocks_per_stage has {} entries, but pp {} × virtual_stages {} = {} stages",
                     origin, blocks.size(), parallel.pp, parallel.virtual_stages, stages);
  const std::int64_t total = std::accumulate(blocks.begin(), blocks.end(), std::int64_t{0});
  if (total != config.model.num_hidden_layers)
    throw UsageError("{}parallel: blocks_per_stage {} = {} layers, but model.num_hidden_layers is {}", origin,
                     fmt::join(blocks, " + "), total, config.model.num_hidden_layers);
}

void validate_run(const Config& config) {
  const std::string& name = config.run.name;
  if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos)
    throw UsageError("{}run: name \"{}\" cannot name a folder: no '/', no '.' in front, not empty",
                     origin_of(config, {"run.name"}), name);
  if (config.run.directory.empty())
    throw UsageError("{}run: directory is empty", origin_of(config, {"run.directory"}));
  if (config.run.device == RunConfig::Device::cuda)
    throw UsageError("{}run: device \"cuda\": this program was built without a CUDA backend",
                     origin_of(config, {"run.device"}));
}

}  // namespace

void validate(const Config& config) {
  validate_model(config);
  validate_data(config);
  validate_batch(config);
  validate_schedules(config);
  validate_stages(config);
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
  try {
    validate(grid, world_size);
  } catch (const UsageError& error) {
    throw UsageError("{}{}", origin, error.what());
  }
  const TrainConfig& train = config.train;
  const std::int64_t product = grid.dp * train.microbatch;
  if (train.global_batch % product != 0)
    throw UsageError(
        "{}train: global_batch {} is not a multiple of dp {} × microbatch {} = {}",
        origin_of(config, {"train.global_batch", "train.microbatch", "parallel.dp", "parallel.pp"}),
        train.global_batch, grid.dp, train.microbatch, product);
  // The last stage has the head to do and may go without a layer.
  if (grid.stages() - 1 > config.model.num_hidden_layers)
    throw UsageError(
        "{}parallel: pp {} × virtual_stages {} = {} stages need at least {} layers, the model has {}",
        origin_of(config, {"parallel.pp", "parallel.virtual_stages", "model.num_hidden_layers"}), grid.pp,
        grid.virtual_stages, grid.stages(), grid.stages() - 1, config.model.num_hidden_layers);
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

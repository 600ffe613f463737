#include "launch/training/session.h"

#include <algorithm>

#include "launch/config/config_loader.h"
#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "runtime/error.h"
#include "runtime/host/memory_limit.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

namespace {

constexpr std::int64_t most_weight_bytes = std::int64_t{1} << 50;  // no machine has more

ReadyProgram ready(const Program& compute) {
  ReadyProgram result{.program = lower_program(compute), .footprint = {}};
  result.footprint = validate_program(result.program);
  return result;
}

}  // namespace

Device::Options resolve_device(const Config& config, MpiCommunicator& world) {
  const int threads = config.parallel.threads;
  Device::Options options{.threads = threads > 0 ? threads : world.world().cores(),
                          .deterministic = config.train.deterministic};
  const int own = Device::gpus();
  std::int32_t fewest = own;
  world.all_reduce(tensor_over(std::span(&fewest, 1), {1}), ReduceOp::min);
  if (config.run.device == RunConfig::Device::cuda && fewest == 0)
    throw UsageError("{}run: device \"cuda\": {} sees no GPU", origin_of(config, {"run.device"}),
                     own == 0 ? fmt::format("rank {}", world.rank()) : "another rank");
  if (config.run.device == RunConfig::Device::cpu || fewest == 0) {
    if (config.train.precision == TrainConfig::Precision::bf16)
      throw UsageError("{}train: precision \"bf16\" needs GPUs, but the ranks compute on the CPU",
                       origin_of(config, {"train.precision", "run.device"}));
    return options;
  }
  options.kind = DeviceKind::cuda;
  options.gpu = world.world().local_rank() % own;
  return options;
}

DType compute_dtype(const Config& config, DeviceKind device) {
  const bool rounded = device == DeviceKind::cuda && config.train.precision != TrainConfig::Precision::f32;
  return rounded ? DType::bf16 : DType::f32;
}

namespace {

/// Bytes of a rank's weights and, in training, of their gradients and moments; activations are not included.
std::int64_t weight_bytes(const Config& config, const ModelLayout& layout, const Groups& groups,
                          Purpose purpose) {
  double bytes = 0;
  const double moments = 2.0 * (config.optimizer.moments == OptimizerSettings::Moments::f32 ? 4 : 2) /
                         (config.parallel.sharded_optimizer ? groups.grid.dp : 1);
  for (const ParameterUnit& unit : units_of(config.model, config.mtp, layout, groups.pp_rank))
    for (const ParameterSpec& spec : unit.specs)
      bytes +=
          static_cast<double>(spec.shape.elements()) *
          (purpose == Purpose::train && config.train.freeze == TrainConfig::Freeze::none ? 8 + moments : 4);
  return static_cast<std::int64_t>(std::min(bytes, 9e18));
}

}  // namespace

Session::Session(MpiCommunicator& world, const Config& config, const Grid& grid, Purpose purpose)
    : config_(config),
      device_(resolve_device(config, world)),
      layout_(resolve_layout(config, grid, purpose)),
      groups_(make_groups(world, grid, stream(), sharing_ranks(config.model, config.mtp, layout_))),
      objective_(config.mtp) {
  const PipelineShape shape = shape_of(config, grid);
  evaluation_ = ready(forward_only(shape));
  std::vector<int> slots = evaluation_.footprint.slots;
  if (purpose == Purpose::train) {
    training_ = ready(make_program(config.parallel.schedule, shape));
    for (std::size_t stage = 0; stage < slots.size(); ++stage)
      slots[stage] = std::max(slots[stage], training_.footprint.slots[stage]);
  }

  const int neighbours = world.world().local_ranks();
  if (stream().device() == DeviceKind::cpu)  // checked before allocation: ranks of a machine share its memory
    require_memory(neighbours * std::min(weight_bytes(config, layout_, groups_, purpose), most_weight_bytes),
                   fmt::format("model: its weights{} on {} rank{} of this machine",
                               purpose == Purpose::train ? ", gradients and moments" : "", neighbours,
                               neighbours == 1 ? "" : "s"));

  RankModelOptions options;
  options.model = config.model;
  options.mtp = config.mtp;
  options.layout = layout_;
  options.pp_rank = groups_.pp_rank;
  options.shape = {.rows = config.train.microbatch, .length = config.data.sequence_length};
  options.activations = compute_dtype(config, stream().device());
  if (purpose == Purpose::train && config.train.precision == TrainConfig::Precision::fp8)
    options.fp8 = config.fp8;
  options.recompute = config.train.recompute;
  options.microbatches = shape.microbatches;
  options.slots = slots;
  options.split_backward = has_split_backward(training_.program);
  options.attention_across_documents = config.data.attention == DataConfig::Attention::row;
  options.frozen_trunk = config.train.freeze == TrainConfig::Freeze::trunk;
  model_ = std::make_unique<RankModel>(stream(), options);
}

std::vector<double> Session::read_sums() {
  synchronize();
  const Tensor& all = model_->sums().all;
  std::vector<double> sums(static_cast<std::size_t>(all.elements()));
  copy(stream(), all, tensor_over(std::span(sums), all.shape));
  stream().synchronize();
  return sums;
}

void Session::sum_target_counts(std::span<std::int64_t> counts) {
  if (model_->computes_losses())
    groups_.dp->host().all_reduce(tensor_over(counts, {static_cast<std::int64_t>(counts.size())}));
}

}  // namespace foretoken

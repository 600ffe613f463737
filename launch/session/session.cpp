#include "launch/session/session.h"

#include <algorithm>

#include "launch/config/config_loader.h"
#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "runtime/error.h"
#include "runtime/host/memory_limit.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

constexpr double most_bytes = 1e15;  // no machine has more

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
    throw usage_error(config, {"run.device"}, "run: device \"cuda\": {} sees no GPU",
                      own == 0 ? fmt::format("rank {}", world.rank()) : "another rank");
  if (config.run.device == RunConfig::Device::cpu || fewest == 0) {
    if (config.train.precision == TrainConfig::Precision::bf16)
      throw usage_error(config, {"train.precision", "run.device"},
                        "train: precision \"bf16\" needs GPUs, but the ranks compute on the CPU");
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

SessionPlan plan_session(MpiCommunicator& world, const Config& config, const Grid& grid, Purpose purpose) {
  const PipelineShape shape = shape_of(config, grid);
  return {.config = config,
          .purpose = purpose,
          .device = resolve_device(config, world),
          .layout = resolve_layout(config, grid, purpose),
          .training = purpose == Purpose::train ? ready(make_program(config.parallel.schedule, shape))
                                                : ReadyProgram{},
          .evaluation = ready(forward_only(shape))};
}

namespace {

RankModelOptions model_options(const SessionPlan& plan, int pp_rank) {
  const Config& config = plan.config;
  std::vector<int> slots = plan.evaluation.footprint.slots;
  for (std::size_t stage = 0; stage < plan.training.footprint.slots.size(); ++stage)
    slots[stage] = std::max(slots[stage], plan.training.footprint.slots[stage]);
  const bool fp8 = plan.purpose == Purpose::train && config.train.precision == TrainConfig::Precision::fp8;
  return {.model = config.model,
          .mtp = config.mtp,
          .layout = plan.layout,
          .pp_rank = pp_rank,
          .shape = {.rows = config.train.microbatch, .length = config.data.sequence_length},
          .activations = compute_dtype(config, plan.device.kind),
          .fp8 = fp8 ? std::optional(config.fp8) : std::nullopt,
          .recompute = config.train.recompute,
          .microbatches = shape_of(config, plan.grid()).microbatches,
          .slots = std::move(slots),
          .split_backward = has_split_backward(plan.training.program),
          .attention_across_documents = config.data.attention == DataConfig::Attention::row,
          .frozen_trunk = config.train.freeze == TrainConfig::Freeze::trunk};
}

/// Bytes of the moments that a rank keeps, up to the padding of shards.
double moment_bytes(const SessionPlan& plan, int pp_rank) {
  const Config& config = plan.config;
  const bool frozen = config.train.freeze == TrainConfig::Freeze::trunk;
  double elements = 0;
  for (const ParameterUnit& unit : units_of(config.model, config.mtp, plan.layout, pp_rank))
    if (!frozen || unit.head)
      for (const ParameterSpec& spec : unit.specs) elements += static_cast<double>(spec.shape.elements());
  return elements * 2 * (config.optimizer.moments == OptimizerSettings::Moments::f32 ? 4 : 2) /
         (config.parallel.sharded_optimizer ? plan.grid().dp : 1);
}

}  // namespace

std::int64_t expected_bytes(const SessionPlan& plan, int pp_rank) {
  Device device({.threads = 1});
  RankModelOptions options = model_options(plan, pp_rank);
  options.plan_only = true;
  auto bytes = static_cast<std::int64_t>(RankModel(device.stream(), options).planned_bytes());
  if (plan.purpose == Purpose::train)
    bytes += static_cast<std::int64_t>(std::min(moment_bytes(plan, pp_rank), most_bytes));
  return bytes;
}

Session::Session(MpiCommunicator& world, SessionPlan plan)
    : plan_(std::move(plan)),
      device_(plan_.device),
      groups_(make_groups(world, plan_.grid(), stream(),
                          sharing_ranks(plan_.config.model, plan_.config.mtp, plan_.layout))),
      objective_(plan_.config.mtp) {
  const int neighbours = world.world().local_ranks();
  if (stream().device() ==
      DeviceKind::cpu)  // checked before allocation, for all ranks of the machine together
    require_memory(neighbours * expected_bytes(plan_, groups_.pp_rank),
                   fmt::format("memory for tensors of {} of this machine", counted(neighbours, "rank")));
  model_ = std::make_unique<RankModel>(stream(), model_options(plan_, groups_.pp_rank));
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

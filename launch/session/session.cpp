#include "launch/session/session.h"

#include <algorithm>

#include "launch/config/config_loader.h"
#include "launch/config/device_times.h"
#include "launch/session/profile_on_ranks.h"
#include "launch/session/rank_memory.h"
#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "runtime/error.h"
#include "runtime/host/memory_limit.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

constexpr double most_bytes = 1e15;  // no machine has more

}  // namespace

ReadyProgram make_ready(const Program& compute) {
  ReadyProgram result{.program = lower_program(compute), .footprint = {}};
  result.footprint = validate_program(result.program);
  return result;
}

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

SessionPlan plan_session(const Config& config, const Grid& grid, Purpose purpose,
                         const Device::Options& device) {
  const PipelineShape shape = shape_of(config, grid);
  return {.config = config,
          .purpose = purpose,
          .device = device,
          .layout = resolve_layout(config, grid, purpose),
          .training = purpose == Purpose::train ? make_ready(make_program(config.parallel.schedule, shape))
                                                : ReadyProgram{},
          .evaluation = make_ready(forward_only(shape))};
}

SessionPlan plan_session(MpiCommunicator& world, const Config& config, const Grid& grid, Purpose purpose) {
  Config loaded = config;
  if (purpose == Purpose::train) load_profile(loaded, world);
  return plan_session(loaded, grid, purpose, resolve_device(config, world));
}

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

Session::Session(MpiCommunicator& world, SessionPlan plan)
    : plan_(std::move(plan)),
      device_(plan_.device),
      groups_(make_groups(world, plan_.grid(), stream(),
                          sharing_ranks(plan_.config.model, plan_.config.mtp, plan_.layout))),
      objective_(plan_.config.mtp) {
  if (plan_.config.device_times)
    plan_.config.device_times->require_device(device_identity(device_), plan_.device.threads);
  if (stream().device() ==
      DeviceKind::cpu) {  // checked before allocation: ranks of a machine share its memory
    const int neighbours = world.world().local_ranks();
    const std::size_t bytes = plan_memory(plan_, groups_.pp_rank, groups_.dp_rank).allocated;
    require_memory(static_cast<std::int64_t>(std::min(neighbours * static_cast<double>(bytes), most_bytes)),
                   fmt::format("memory for tensors of {} of this machine", counted(neighbours, "rank")));
  }
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

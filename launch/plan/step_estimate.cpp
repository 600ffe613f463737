#include "launch/plan/step_estimate.h"

#include <algorithm>
#include <vector>

#include "model/layout.h"
#include "parallel/pipeline/schedules.h"

namespace foretoken {

namespace {

/// Maximum number of compute actions of a simulated step, unless the pipeline needs more to fill.
constexpr int simulated_actions = 8192;

double activation_bytes(const Config& config, const DeviceRates& rates) {
  return static_cast<double>(size_of(compute_dtype(config, rates.kind)));
}

double microbatch_elements(const Config& config) {
  return static_cast<double>(config.train.microbatch * config.data.sequence_length *
                             config.model.hidden_size);
}

/// The microbatches left out are a multiple of pp, so that the groups of interleaved_1f1b keep their sizes.
int simulated_microbatches(const PipelineShape& shape) {
  const int most = std::max(4 * shape.pp, simulated_actions / (2 * shape.stages()));
  if (shape.microbatches <= most) return shape.microbatches;
  return shape.microbatches - (shape.microbatches - most + shape.pp - 1) / shape.pp * shape.pp;
}

std::vector<double> loads_of(const PipelineShape& shape, const std::vector<StageDurations>& stages) {
  std::vector<double> loads(static_cast<std::size_t>(shape.pp), 0.0);
  for (int stage = 0; stage < shape.stages(); ++stage)
    loads[static_cast<std::size_t>(shape.rank_of(stage))] += stages[static_cast<std::size_t>(stage)].total();
  return loads;
}

/// The largest number of trained parameters on a rank.
double most_parameters(const Config& config, const ModelLayout& layout) {
  double most = 0;
  for (int pp_rank = 0; pp_rank < layout.grid.pp; ++pp_rank) {
    std::int64_t count = 0;
    for (const ParameterUnit& unit : units_of(config.model, config.mtp, layout, pp_rank))
      if (unit.head || config.train.freeze == TrainConfig::Freeze::none)
        for (const ParameterSpec& spec : unit.specs) count += spec.shape.elements();
    most = std::max(most, static_cast<double>(count));
  }
  return most;
}

}  // namespace

const Simulation& StepEstimator::simulation(const std::string& schedule, const PipelineShape& shape) {
  std::unique_ptr<Simulation>& found =
      simulations_[{schedule, shape.pp, shape.virtual_stages, shape.microbatches}];
  if (!found) {
    const ReadyProgram ready = make_ready(make_program(schedule, shape));
    found = std::make_unique<Simulation>(ready.program, ready.footprint);
  }
  return *found;
}

StepEstimate StepEstimator::estimate(const Config& config, const ModelLayout& layout) {
  const Grid& grid = layout.grid;
  const PipelineShape whole = shape_of(config, grid);
  const PipelineShape shape{grid.pp, grid.virtual_stages, simulated_microbatches(whole)};
  const std::vector<StageDurations> stages = stage_costs(times_.layers(config), layout.halves_per_stage);
  const std::vector<double> loads = loads_of(shape, stages);
  const double busiest = *std::max_element(loads.begin(), loads.end());
  const double left_out = (whole.microbatches - shape.microbatches) * busiest;

  const bool one_node = grid.world() <= per_node_;
  const Link& neighbour = one_node || per_node_ % grid.pp == 0 ? rates_.inside : rates_.between;
  const Link& replica = one_node ? rates_.inside : rates_.between;
  const Simulation& program = simulation(config.parallel.schedule, shape);
  Durations durations{.stages = stages};
  const double free = program.makespan(durations) + left_out;
  durations.message = grid.pp == 1
                          ? 0
                          : neighbour.latency + microbatch_elements(config) *
                                                    activation_bytes(config, rates_) / neighbour.bandwidth;
  const double with_messages = program.makespan(durations) + left_out;

  const double parameters = most_parameters(config, layout);
  const bool sharded = config.parallel.sharded_optimizer;
  const auto weight = static_cast<double>(size_of(compute_dtype(config, rates_.kind)));
  const double share = static_cast<double>(grid.dp - 1) / grid.dp;
  const double rounds = (grid.dp - 1) * replica.latency;
  // A ring sends a gradient's bytes twice, or once if it is only scattered.
  const double reduction = (sharded ? 1 : 2) * (share * 4 * parameters / replica.bandwidth + rounds);
  const double gather = sharded ? share * weight * parameters / replica.bandwidth + rounds : 0;
  double last_backward = 0;
  for (const StageDurations& stage : stages) last_backward = std::max(last_backward, stage.backward());

  StepEstimate step;
  step.optimizer = times_.update(config, parameters / (sharded ? grid.dp : 1));
  step.communication = with_messages - free + std::max(0.0, reduction - last_backward) + gather;
  step.total = free + step.communication + step.optimizer;
  double compute = 0;
  for (const double load : loads) compute += load * whole.microbatches / grid.pp;
  step.bubble = std::max(0.0, 1 - compute / free);
  return step;
}

}  // namespace foretoken

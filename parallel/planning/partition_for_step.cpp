#include "parallel/planning/partition_for_step.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>

#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/pipeline/validate_program.h"
#include "parallel/planning/simulate.h"
#include "runtime/random.h"

namespace foretoken {

namespace {

/// Steps longer than the shortest by at most this fraction count as equal.
constexpr double tolerance = 1e-3;
/// The random walk accepts a partition whose step is longer than the current partition's by at most this
/// fraction. The fraction falls linearly to 0 during the walk.
constexpr double detour = 0.02;
/// Maximum number of compute actions simulated for one step, and for all tried steps together.
constexpr std::int64_t simulated_actions = 8192, all_simulated_actions = 100'000'000;
/// If the simulated part of one step has more actions, partition_layers() alone decides, because a simulation
/// takes seconds.
constexpr std::int64_t most_simulated_actions = 1 << 21;
/// Maximum number of shifts that the walk tries.
constexpr std::int64_t all_shifts = 20'000;

/// Number of microbatches to simulate. Once the pipeline has filled, each further microbatch adds its compute
/// time on the busiest rank and need not be simulated. The number left out is a multiple of pp, so the groups
/// of interleaved_1f1b keep their sizes.
int simulated_microbatches(const PipelineShape& shape) {
  const auto most =
      std::max<std::int64_t>(4 * shape.pp, simulated_actions / (2 * std::int64_t{shape.stages()}));
  if (shape.microbatches <= most) return shape.microbatches;
  const int groups_left_out = (shape.microbatches - static_cast<int>(most) + shape.pp - 1) / shape.pp;
  return shape.microbatches - groups_left_out * shape.pp;
}

/// Computes the step time of a partition.
class StepLength {
 public:
  StepLength(const LayerCosts& costs, std::string_view schedule, const PipelineShape& shape)
      : costs_(costs),
        shape_(shape),
        simulated_(simulated_microbatches(shape)),
        simulation_(make_simulation(schedule, {shape.pp, shape.virtual_stages, simulated_})) {}

  std::int64_t actions() const { return 2 * std::int64_t{shape_.stages()} * simulated_; }

  /// The step time, or infinity if the compute of the busiest rank alone takes longer than `bound`.
  double operator()(const std::vector<int>& halves, double bound) {
    stage_costs(costs_, halves, durations_.stages);
    const double busiest = busiest_rank();
    if (shape_.microbatches * busiest > bound) return std::numeric_limits<double>::infinity();
    return simulation_.makespan(durations_) + (shape_.microbatches - simulated_) * busiest;
  }

 private:
  static Simulation make_simulation(std::string_view schedule, const PipelineShape& shape) {
    const Program lowered = lower_program(make_program(schedule, shape));
    return {lowered, validate_program(lowered)};
  }

  double busiest_rank() {
    loads_.assign(static_cast<std::size_t>(shape_.pp), 0.0);
    for (int stage = 0; stage < shape_.stages(); ++stage)
      loads_[static_cast<std::size_t>(shape_.rank_of(stage))] +=
          durations_.stages[static_cast<std::size_t>(stage)].total();
    return *std::max_element(loads_.begin(), loads_.end());
  }

  const LayerCosts& costs_;
  PipelineShape shape_;
  int simulated_;  // number of simulated microbatches
  Simulation simulation_;
  Durations durations_;        // of the partition in work
  std::vector<double> loads_;  // by rank
};

/// Visits partitions within the limits: all of them if they are few. Otherwise it visits the partitions of a
/// random walk, whose steps shift halves from one stage to another.
class Search {
 public:
  Search(const LayerCosts& costs, int stages, std::int64_t actions)
      : halves_(static_cast<int>(costs.halves.size())), tries_(all_simulated_actions / actions) {
    for (int stage = 0; stage < stages; ++stage) ranges_.push_back(range_of_halves(costs, stage, stages));
    exhaustive_ = partitions() <= static_cast<double>(tries_);
  }

  /// Calls takes(partition, remaining fraction of the walk) for each partition. It returns whether the walk
  /// continues from that partition.
  template <class Takes>
  void run(const std::vector<int>& start, const Takes& takes) const {
    std::vector<int> counts;
    if (exhaustive_)
      try_all(counts, halves_, takes);
    else
      walk(start, takes);
  }

 private:
  /// Number of partitions: the ways to distribute the halves beyond all minimums over the stages that may
  /// have more than their minimum.
  double partitions() const {
    int spare = halves_, stages = 0;
    for (const auto& [least, most] : ranges_) {
      spare -= least;
      stages += most > least;
    }
    double count = 1;
    for (int i = 1; i < stages; ++i) count *= static_cast<double>(spare + i) / i;
    return count;
  }

  template <class Takes>
  void try_all(std::vector<int>& counts, int left, const Takes& takes) const {
    if (counts.size() == ranges_.size()) {
      takes(counts, 0.0);
      return;
    }
    // The later stages must be able to take exactly the rest; without this limit nearly all visits of a long
    // pipeline would be dead ends.
    const HalvesRange& range = ranges_[counts.size()];
    int least_later = 0, most_later = 0;
    for (std::size_t stage = counts.size() + 1; stage < ranges_.size(); ++stage) {
      least_later += ranges_[stage].least;
      most_later += std::min(ranges_[stage].most, halves_);
    }
    const int first = std::max(range.least, left - most_later),
              last = std::min(range.most, left - least_later);
    for (int count = first; count <= last; ++count) {
      counts.push_back(count);
      try_all(counts, left - count, takes);
      counts.pop_back();
    }
  }

  /// Each step shifts one or two halves from one stage to another. The stages between these two keep their
  /// counts, so their ranges of layers move.
  template <class Takes>
  void walk(std::vector<int> here, const Takes& takes) const {
    const CounterRng rng(1, "partition");
    const auto shifts = static_cast<std::uint64_t>(std::min(tries_, all_shifts));
    for (std::uint64_t i = 0; i < shifts; ++i) {
      const auto [first, second, third, unused] = rng.block(i);
      const std::size_t from = first % here.size(), to = second % here.size();
      const int count = 1 + static_cast<int>(third % 2);
      if (from == to || here[from] - count < ranges_[from].least || here[to] + count > ranges_[to].most)
        continue;
      std::vector<int> shifted = here;
      shifted[from] -= count;
      shifted[to] += count;
      if (takes(shifted, 1 - static_cast<double>(i) / static_cast<double>(shifts))) here = shifted;
    }
  }

  int halves_;
  std::int64_t tries_;
  bool exhaustive_ = false;
  std::vector<HalvesRange> ranges_;  // by stage
};

/// Order among equal step times: fewest cuts inside layers, most even counts, fewer halves on earlier stages.
using TieBreak = std::tuple<int, std::int64_t, std::vector<int>>;

TieBreak tie_break(const std::vector<int>& halves) {
  int cuts = 0, end = 0;
  std::int64_t squares = 0;
  for (const int count : halves) {
    end += count;
    cuts += end % 2;
    squares += std::int64_t{count} * count;
  }
  return {cuts, squares, halves};
}

}  // namespace

std::vector<int> partition_for_step(const LayerCosts& costs, std::string_view schedule,
                                    const PipelineShape& shape) {
  const std::vector<int> even =
      partition_layers(costs, {.pp = shape.pp, .virtual_stages = shape.virtual_stages});
  if (2 * std::int64_t{shape.stages()} * simulated_microbatches(shape) > most_simulated_actions) return even;
  StepLength length(costs, schedule, shape);
  const Search search(costs, shape.stages(), length.actions());

  std::vector<int> best = even;
  double shortest = length(even, std::numeric_limits<double>::infinity()), here = shortest;
  search.run(even, [&](const std::vector<int>& halves, double left) {
    const double bound = here * (1 + detour * left);
    const double step = length(halves, bound);
    if (step > bound) return false;
    here = step;
    if (step < shortest) {
      shortest = step;
      best = halves;
    }
    return true;
  });

  const double allowed = shortest * (1 + tolerance);
  if (length(even, allowed) <= allowed) best = even;
  TieBreak best_tie_break = tie_break(best);
  search.run(best, [&](const std::vector<int>& halves, double) {
    TieBreak next_tie_break = tie_break(halves);
    if (next_tie_break >= best_tie_break || length(halves, allowed) > allowed) return false;
    best_tie_break = std::move(next_tie_break);
    best = halves;
    return true;
  });
  return best;
}

double step_length(const LayerCosts& costs, std::string_view schedule, const PipelineShape& shape,
                   const std::vector<int>& halves) {
  return StepLength(costs, schedule, shape)(halves, std::numeric_limits<double>::infinity());
}

}  // namespace foretoken

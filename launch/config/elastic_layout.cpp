#include "launch/config/elastic_layout.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <tuple>

#include <fmt/format.h>

#include "launch/config/config_validator.h"
#include "launch/config/layout.h"
#include "parallel/planning/partition_for_step.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

struct Candidate {
  Config config;
  int ranks = 0;
  bool holds_more = false;  // each rank holds more of the model than in the configured layout
  double step = 0;
};

/// Step times within a thousandth of each other count as equal.
bool is_better(const Candidate& a, const Candidate& b) {
  if (a.holds_more != b.holds_more) return b.holds_more;
  if (std::abs(a.step - b.step) > 1e-3 * std::min(a.step, b.step)) return a.step < b.step;
  return std::make_tuple(a.ranks, a.config.parallel.pp) < std::make_tuple(b.ranks, b.config.parallel.pp);
}

bool is_legal(const Config& config, int ranks) {
  try {
    validate(config);
    resolve_grid(config, ranks);
    return true;
  } catch (const UsageError&) {
    return false;
  }
}

double step_of(const Config& config, int ranks) {
  const Grid grid = resolve_grid(config, ranks);
  const LayerCosts costs = layer_costs(config, Purpose::train);
  const PipelineShape shape{.pp = grid.pp,
                            .virtual_stages = grid.virtual_stages,
                            .microbatches = static_cast<int>(microbatches_of(config, grid))};
  const std::vector<int> halves = config.parallel.blocks_per_stage.empty()
                                      ? partition_layers(costs, grid)
                                      : halves_of(config.parallel.blocks_per_stage);
  return step_length(costs, config.parallel.schedule, shape, halves);
}

/// The layout pp × dp with the configured stages per rank and schedule or, if that is not legal, with one
/// stage per rank and 1F1B. Empty if neither is legal.
std::optional<Candidate> candidate(const Config& config, int pp, int dp) {
  Config tried = config;
  ParallelConfig& parallel = tried.parallel;
  parallel.pp = pp;
  parallel.dp = dp;
  if (pp != config.parallel.pp) parallel.blocks_per_stage.clear();
  if (!is_legal(tried, pp * dp)) {
    parallel.virtual_stages = 1;
    parallel.schedule = "1f1b";
    parallel.blocks_per_stage.clear();
    if (!is_legal(tried, pp * dp)) return std::nullopt;
  }
  return Candidate{.config = tried,
                   .ranks = pp * dp,
                   .holds_more = pp < config.parallel.pp,
                   .step = step_of(tried, pp * dp)};
}

/// Upper bound: one pipeline rank per half layer and per stage of a head.
int most_pipeline_ranks(const Config& config, int ranks) {
  const std::int64_t stages = 2 * config.model.num_hidden_layers + config.mtp.depths + 1;
  return static_cast<int>(std::min<std::int64_t>(stages, ranks));
}

Config choose(const Config& config, int ranks, bool all) {
  if (is_legal(config, ranks)) return config;
  std::optional<Candidate> best;
  const std::int64_t parts = config.train.global_batch / config.train.microbatch;
  for (int pp = 1; pp <= most_pipeline_ranks(config, ranks); ++pp) {
    int dp = static_cast<int>(std::min<std::int64_t>(ranks / pp, parts));
    if (all && dp * pp != ranks) continue;
    // More replicas take fewer microbatches each, so the largest number that divides the batch is the
    // fastest.
    while (!all && parts % dp != 0) --dp;
    if (const auto found = candidate(config, pp, dp); found && (!best || is_better(*found, *best)))
      best = found;
  }
  if (best) return best->config;
  throw UsageError(
      "parallel: no layout of {}{} rank{} is legal: there are too few layers for as many pipeline ranks, or "
      "dp does not "
      "divide global_batch {} / microbatch {} = {}",
      all ? "" : "at most ", ranks, ranks == 1 ? "" : "s", config.train.global_batch, config.train.microbatch,
      parts);
}

}  // namespace

Config layout_for(const Config& config, int ranks) {
  return choose(config, ranks, true);
}

Config layout_for_at_most(const Config& config, int ranks) {
  return choose(config, ranks, false);
}

bool is_same_layout(const ParallelConfig& a, const ParallelConfig& b) {
  const auto layout = [](const ParallelConfig& p) {
    return std::tie(p.pp, p.dp, p.virtual_stages, p.schedule, p.blocks_per_stage);
  };
  return layout(a) == layout(b);
}

std::string layout_text(const Config& config, int ranks) {
  return fmt::format("{}, {}", to_string(resolve_grid(config, ranks)), config.parallel.schedule);
}

}  // namespace foretoken

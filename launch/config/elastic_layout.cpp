#include "launch/config/elastic_layout.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "launch/config/config_validator.h"
#include "launch/config/layout.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/planning/partition_for_step.h"
#include "parallel/planning/step_bound.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

struct Candidate {
  Config config;
  int ranks = 0;
  bool holds_more = false;  // each rank holds more of the model than in the configured layout
  double step = 0;
};

/// Step times within this fraction of each other count as equal.
constexpr double tolerance = 1e-3;

bool is_better(const Candidate& a, const Candidate& b) {
  if (a.holds_more != b.holds_more) return b.holds_more;
  if (std::abs(a.step - b.step) > tolerance * std::min(a.step, b.step)) return a.step < b.step;
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

/// The step with the partition that training chooses, in the unit of layer_costs().
double step_of(const Config& config, int ranks) {
  const Grid grid = resolve_grid(config, ranks);
  return step_length(layer_costs(config, Purpose::train), config.parallel.schedule, shape_of(config, grid),
                     resolve_layout(config, grid, Purpose::train).halves_per_stage);
}

/// A lower bound of step_of().
double least_step_of(const Config& config, int ranks) {
  return least_program_time(layer_costs(config, Purpose::train),
                            {.shape = shape_of(config, resolve_grid(config, ranks)),
                             .split_backward = splits_backward(config.parallel.schedule)});
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
  return Candidate{.config = tried, .ranks = pp * dp, .holds_more = pp < config.parallel.pp};
}

/// Whether a candidate may be better than the best so far. Its step is not known, because finding a partition
/// may take a second.
bool may_be_better(const Candidate& a, const Candidate& best) {
  if (a.holds_more != best.holds_more) return best.holds_more;
  return least_step_of(a.config, a.ranks) <= (1 + tolerance) * best.step;
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
    std::optional<Candidate> found = candidate(config, pp, dp);
    if (!found || (best && !may_be_better(*found, *best))) continue;
    found->step = step_of(found->config, found->ranks);
    if (!best || is_better(*found, *best)) best = std::move(found);
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

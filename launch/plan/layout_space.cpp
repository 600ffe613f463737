#include "launch/plan/layout_space.h"

#include <algorithm>
#include <optional>

#include "launch/config/config_validator.h"
#include "model/config_names.h"
#include "parallel/pipeline/schedules.h"
#include "runtime/enum_names.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

void set_layout(Config& config, const PlanLayout& layout) {
  ParallelConfig& parallel = config.parallel;
  if (layout.pp * layout.virtual_stages != static_cast<int>(parallel.blocks_per_stage.size()))
    parallel.blocks_per_stage.clear();
  parallel.pp = layout.pp;
  parallel.dp = layout.dp;
  parallel.virtual_stages = layout.virtual_stages;
  parallel.schedule = layout.schedule;
  parallel.sharded_optimizer = layout.sharded_optimizer;
  config.train.microbatch = layout.microbatch;
  config.train.recompute = layout.recompute;
  config.mtp.placement = layout.placement;
}

std::vector<std::int64_t> divisors(std::int64_t number) {
  std::vector<std::int64_t> found;
  for (std::int64_t i = 1; i <= number; ++i)
    if (number % i == 0) found.push_back(i);
  return found;
}

/// The configured value alone if --set fixes the setting, otherwise all values.
template <class Value>
std::vector<Value> values_of(const Config& config, const std::string& name, const Value& configured,
                             std::vector<Value> all) {
  const auto origin = config.origins.find(name);
  if (origin != config.origins.end() && origin->second.starts_with("--set")) return {configured};
  return all;
}

template <class Enum>
std::vector<Enum> all_of() {
  const auto values = enumerators<Enum>();
  return {values.begin(), values.end()};
}

class LayoutSpace {
 public:
  LayoutSpace(const Config& config, int ranks) : config_(config), ranks_(ranks), tried_(config) {}

  std::vector<PlanLayout> run() {
    const ParallelConfig& parallel = config_.parallel;
    for (const std::int64_t pp :
         values_of<std::int64_t>(config_, "parallel.pp", parallel.pp, divisors(ranks_)))
      if (pp <= most_stages() && ranks_ % pp == 0) add_depths_of(static_cast<int>(pp));
    if (found_.empty() && !reached_layouts_ && first_error_) throw *first_error_;
    return std::move(found_);
  }

 private:
  /// One stage per half layer, per depth and for the head.
  std::int64_t most_stages() const { return 2 * config_.model.num_hidden_layers + config_.mtp.depths + 1; }

  /// Layouts of pp pipeline ranks with any number of stages per rank.
  void add_depths_of(int pp) {
    const ParallelConfig& parallel = config_.parallel;
    layout_.pp = pp;
    layout_.dp = ranks_ / pp;
    std::vector<int> virtual_stages;
    // A single rank has no pipeline to interleave.
    for (int v = 1; v == 1 || (pp > 1 && std::int64_t{pp} * v <= most_stages()); ++v)
      virtual_stages.push_back(v);
    for (const int v : values_of(config_, "parallel.virtual_stages", parallel.virtual_stages, virtual_stages))
      for (const std::string& schedule :
           values_of(config_, "parallel.schedule", parallel.schedule, schedule_names())) {
        layout_.virtual_stages = v;
        layout_.schedule = schedule;
        add_placements();
      }
  }

  void add_placements() {
    for (const auto placement :
         values_of(config_, "mtp.placement", config_.mtp.placement, all_of<MtpConfig::Placement>()))
      for (const Recompute recompute :
           values_of(config_, "train.recompute", config_.train.recompute, all_of<Recompute>())) {
        layout_.placement = placement;
        layout_.recompute = recompute;
        if (config_.mtp.depths > 0 || placement != MtpConfig::Placement::stage_per_depth) add_batches();
      }
  }

  void add_batches() {
    const std::int64_t rows = config_.train.global_batch / layout_.dp;
    const bool divides = config_.train.global_batch % layout_.dp == 0;
    const std::vector<bool> sharded =
        values_of(config_, "parallel.sharded_optimizer", config_.parallel.sharded_optimizer,
                  layout_.dp > 1 ? std::vector<bool>{false, true}
                                 : std::vector<bool>{config_.parallel.sharded_optimizer});
    for (const std::int64_t microbatch : values_of(config_, "train.microbatch", config_.train.microbatch,
                                                   divides ? divisors(rows) : std::vector<std::int64_t>{1})) {
      layout_.microbatch = microbatch;
      layout_.sharded_optimizer = sharded.front();
      if (!is_legal()) continue;
      for (const bool value : sharded) {
        layout_.sharded_optimizer = value;
        found_.push_back(layout_);
      }
    }
  }

  bool is_legal() {
    tried_.parallel.blocks_per_stage = config_.parallel.blocks_per_stage;
    set_layout(tried_, layout_);
    try {
      validate(tried_);
      reached_layouts_ = true;
      resolve_grid(tried_, ranks_);
      return true;
    } catch (const UsageError& error) {
      if (!first_error_) first_error_ = error;
      return false;
    }
  }

  const Config& config_;
  int ranks_;
  Config tried_;
  PlanLayout layout_;
  std::vector<PlanLayout> found_;
  bool reached_layouts_ = false;  // some configuration passed validate()
  std::optional<UsageError> first_error_;
};

}  // namespace

Config with_layout(Config config, const PlanLayout& layout) {
  set_layout(config, layout);
  return config;
}

std::vector<PlanLayout> legal_layouts(const Config& config, int ranks) {
  return LayoutSpace(config, ranks).run();
}

}  // namespace foretoken

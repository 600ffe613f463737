#pragma once
// The table [scaling] of a sweep file: the same training on several numbers of ranks.
//
//   [scaling]
//   mode = "strong"        # or "weak": the global batch grows with the ranks
//   ranks = [1, 2, 4, 8]
//   projected_ranks = [16] # planned, not run; default 2, 4 and 8 times the most ranks
//   layout = "best"        # the planner chooses; without it [parallel], [axes] and the layouts below
//   device = "h200"        # of the plan, as foretoken plan --gpu
//   profile = ["p.json"]   # as foretoken plan --profile; beside the sweep file
//   per_node = 8           # default; ranks of a node in the plan
//   repeats = 3            # default
//   warmup_steps = 5       # default; first steps of each run, not measured
//
//   [[scaling.layouts]]    # instead of layout: an axis of layouts
//   name = "interleaved"
//   parallel.pp = 2
//
// A weak study's train.global_batch is that of the fewest ranks. [axes] may vary other settings, also the
// layout; [[points]], study.ranks and an axis `ranks` are refused.

#include <cstdint>
#include <optional>
#include <string>

#include "launch/config/config.h"
#include "launch/config/config_toml.h"
#include "launch/study/layout_choice.h"

namespace foretoken {

constexpr std::int64_t most_ranks = 65536;

/// The table of a sweep file, or nothing if the file has none. Throws a UsageError that ends with file and
/// line.
std::optional<ScalingStudy> read_scaling(const toml::table& file, const std::string& path);
/// scaling.ranks of a file that read_scaling() has accepted.
const toml::array* scaling_ranks(const toml::table& file);
/// Its layouts, or nullptr.
const toml::array* scaling_layouts(const toml::table& file);

/// Sets the global batch and, for `best_layout`, the layout of a point with `ranks` ranks. Throws a
/// UsageError if there is none.
void scale(const ScalingStudy& scaling, int ranks, const LayoutChoice& best, Config& config);
/// Throws a UsageError if all steps are warm-up.
void require_measured_steps(const ScalingStudy& scaling, const Config& config, const std::string& path);

}  // namespace foretoken

#pragma once
// The layouts that `foretoken plan` compares: every combination of the settings below that training accepts.

#include <cstdint>
#include <string>
#include <vector>

#include "launch/config/config.h"

namespace foretoken {

/// The settings that differ between layouts; all others stay as configured, the global batch too.
struct PlanLayout {
  int pp = 1;
  int dp = 1;
  int virtual_stages = 1;
  std::string schedule;
  std::int64_t microbatch = 1;
  Recompute recompute = Recompute::none;
  bool sharded_optimizer = false;
  MtpConfig::Placement placement = MtpConfig::Placement::last;

  friend bool operator==(const PlanLayout&, const PlanLayout&) = default;
};

/// The configuration with this layout. parallel.blocks_per_stage stays if the number of stages does.
Config with_layout(Config config, const PlanLayout& layout);

/// All layouts of exactly `ranks` ranks that validate() and resolve_grid() accept
/// (launch/config/config_validator.h), in a fixed order. A setting that --set fixes is not varied. Of layouts
/// that run the same program on the same memory only one is listed: with one replica the optimizer is not
/// sharded, and without heads no stage per depth exists. Throws the validator's error if the configuration is
/// illegal in every layout, for example because model.head_dim is odd.
std::vector<PlanLayout> legal_layouts(const Config& config, int ranks);

}  // namespace foretoken

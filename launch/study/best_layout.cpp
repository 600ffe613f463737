#include "launch/study/best_layout.h"

#include <algorithm>
#include <array>

#include "launch/config/config_validator.h"
#include "launch/config/elastic_layout.h"

namespace foretoken {

Config best_layout(Config config, int ranks) {
  config.parallel.pp = 1;
  config.parallel.blocks_per_stage.clear();
  Config one_rank = config;
  one_rank.parallel.dp = one_rank.parallel.virtual_stages = 1;
  one_rank.parallel.schedule = "1f1b";
  validate(one_rank);  // reports what no layout mends
  // layout_for() keeps a layout that fits, so it receives one that does not: it then compares all.
  config.parallel.dp = ranks + 1;
  return layout_for(config, ranks);
}

bool is_layout_setting(std::string_view option) {
  constexpr std::array<std::string_view, 5> chosen{"parallel.pp", "parallel.dp", "parallel.virtual_stages",
                                                   "parallel.schedule", "parallel.blocks_per_stage"};
  return std::find(chosen.begin(), chosen.end(), option) != chosen.end();
}

}  // namespace foretoken

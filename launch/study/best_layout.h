#pragma once
// The layout of scaling.layout = "best".

#include <string_view>

#include "launch/config/config.h"

namespace foretoken {

/// The configuration with the layout of `ranks` ranks whose simulated step is the shortest
/// (launch/config/elastic_layout.h). Throws a UsageError if no layout is legal.
Config best_layout(Config config, int ranks);

/// Whether best_layout() chooses this option, named "section.key".
bool is_layout_setting(std::string_view option);

}  // namespace foretoken

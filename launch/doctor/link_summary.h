#pragma once
// The measured links between pipeline neighbours.

#include <vector>

#include "launch/doctor/facts.h"

namespace foretoken {

struct NamedLink {
  int from = 0, to = 0;  // ranks of the world
  Link rate;
};

struct MeasuredLinks {
  std::vector<NamedLink> inside_node;
  std::vector<NamedLink> between_nodes;
};

MeasuredLinks links_of(const JobFacts& facts);

/// Median latency and median bandwidth of at least one link; the faster of two.
Link median_of(const std::vector<NamedLink>& links);

}  // namespace foretoken

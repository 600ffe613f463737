#pragma once
// The rank grid: pipeline × data parallel. A plain struct, so that files and tests can describe layouts
// without ranks.
//
// World rank r = dp_rank · pp + pp_rank: the ranks of one pipeline are neighbours, so that on nodes of
// several devices activations stay inside the node. Virtual stage s of pp·v is on pipeline rank s mod pp
// (looped).

#include <string>

namespace foretoken {

struct Grid {
  int pp = 1;              // pipeline ranks
  int dp = 1;              // data-parallel replicas of the pipeline
  int virtual_stages = 1;  // stages per pipeline rank (v)

  int world() const { return pp * dp; }
  int stages() const { return pp * virtual_stages; }
  int rank_of(int pp_rank, int dp_rank) const { return dp_rank * pp + pp_rank; }
  int pp_rank_of(int rank) const { return rank % pp; }
  int dp_rank_of(int rank) const { return rank / pp; }
  int pp_rank_of_stage(int stage) const { return stage % pp; }
  friend bool operator==(const Grid&, const Grid&) = default;
};

/// Throws UsageError unless pp, dp and v are positive and pp × dp is the world's size:
/// "pp 2 × dp 3 = 6, but the world has 4 ranks".
void validate(const Grid& grid, int world_size);

/// Example: "pp 2 × dp 2 × v 1".
std::string to_string(const Grid& grid);

}  // namespace foretoken

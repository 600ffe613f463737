#pragma once
// The network of one pipeline of a job: from the ranks of a transfer to its route, queue, latency and bytes.

#include <map>
#include <utility>
#include <vector>

#include "parallel/grid.h"
#include "parallel/planning/links.h"
#include "parallel/planning/network.h"

namespace foretoken {

/// All replicas run at the same time, so one pipeline is simulated: the one that crosses the most nodes.
/// Messages of one rank in one direction have a queue, as have the collectives of one group. Ranks are those
/// of the pipeline.
class PipelineNetwork {
 public:
  PipelineNetwork(const Grid& grid, const Links& links);

  Network& network() { return network_; }

  /// A message to the next rank of the ring or, for a gradient, to the previous one.
  Network::Submission message(int from, bool gradient, double bytes) const;
  /// A collective of the rank with its replicas.
  Network::Submission data_parallel(Collective kind, int rank, double bytes) const;
  /// An all-reduce over these ranks.
  Network::Submission sum(const std::vector<int>& ranks, double bytes);

  /// The time of a message that is sent alone.
  double message_seconds(int from, bool gradient, double bytes) const;

 private:
  struct Ports {
    int out = 0;
    int in = 0;
  };
  struct Neighbour {
    Link link;
    int route = 0;
    int queue = 0;
  };
  struct Group {
    GroupSpan span;
    int route = 0;
    int queue = 0;
  };

  int node_of(int rank) const { return (offset_ + rank) / links_.per_node; }
  Ports add_ports(double bandwidth);
  Neighbour connect(int from, int to);
  Group connect(const GroupSpan& span, const std::vector<int>& ranks);
  const Neighbour& neighbour(int from, bool gradient) const;
  Network::Submission submission(Collective kind, double bytes, const Group& group) const;

  Grid grid_;
  Links links_;
  int offset_ = 0;  // place of pipeline rank 0 in its node
  Network network_;
  std::vector<Ports> ranks_;
  std::map<int, Ports> nodes_;
  std::vector<Neighbour> next_, previous_;  // by sending rank
  std::vector<Group> replicas_;             // by rank
  std::map<std::vector<int>, Group> groups_;
};

}  // namespace foretoken

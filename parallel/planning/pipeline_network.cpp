#include "parallel/planning/pipeline_network.h"

#include <algorithm>

namespace foretoken {

namespace {

std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

PipelineNetwork::PipelineNetwork(const Grid& grid, const Links& links) : grid_(grid), links_(links) {
  int most = -1;
  for (int dp_rank = 0; dp_rank < std::min(grid.dp, links.per_node); ++dp_rank) {
    const int offset = grid.rank_of(0, dp_rank) % links.per_node;
    const int crossings = (offset + grid.pp - 1) / links.per_node;
    if (crossings <= most) continue;
    most = crossings;
    offset_ = offset;
  }
  for (int rank = 0; rank < grid.pp; ++rank) {
    ranks_.push_back(add_ports(links.inside.bandwidth));
    if (!nodes_.contains(node_of(rank)))
      nodes_[node_of(rank)] = add_ports(links.adapters * links.between.bandwidth);
  }
  for (int rank = 0; rank < grid.pp; ++rank) {
    next_.push_back(connect(rank, (rank + 1) % grid.pp));
    previous_.push_back(connect(rank, (rank + grid.pp - 1) % grid.pp));
    replicas_.push_back(connect(data_parallel_span(grid, rank, links), {rank}));
  }
}

PipelineNetwork::Ports PipelineNetwork::add_ports(double bandwidth) {
  const int out = network_.add_port(bandwidth);
  return {out, network_.add_port(bandwidth)};
}

PipelineNetwork::Neighbour PipelineNetwork::connect(int from, int to) {
  const bool inside = node_of(from) == node_of(to);
  const Link& link = inside ? links_.inside : links_.between;
  const int out = inside ? ranks_[at(from)].out : nodes_[node_of(from)].out;
  const int in = inside ? ranks_[at(to)].in : nodes_[node_of(to)].in;
  return {.link = link,
          .route = network_.add_route({.limit = link.bandwidth, .ports = {out, in}}),
          .queue = network_.add_queue()};
}

/// A group of replicas has one rank in this pipeline.
PipelineNetwork::Group PipelineNetwork::connect(const GroupSpan& span, const std::vector<int>& ranks) {
  Network::Route ring{.limit = collective_bandwidth(span, links_), .ports = {}};
  const auto add = [&](const Ports& ports) { ring.ports.insert(ring.ports.end(), {ports.out, ports.in}); };
  if (span.per_node > 1)
    for (const int rank : ranks) add(ranks_[at(rank)]);
  if (span.nodes > 1) {
    std::vector<int> nodes;
    for (const int rank : ranks) nodes.push_back(node_of(rank));
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    for (const int node : nodes) add(nodes_[node]);
  }
  return {.span = span, .route = network_.add_route(std::move(ring)), .queue = network_.add_queue()};
}

const PipelineNetwork::Neighbour& PipelineNetwork::neighbour(int from, bool gradient) const {
  return (gradient ? previous_ : next_)[at(from)];
}

Network::Submission PipelineNetwork::message(int from, bool gradient, double bytes) const {
  const Neighbour& to = neighbour(from, gradient);
  return {.route = to.route, .queue = to.queue, .latency = to.link.latency, .bytes = bytes};
}

double PipelineNetwork::message_seconds(int from, bool gradient, double bytes) const {
  const Link& link = neighbour(from, gradient).link;
  return link.latency + bytes / link.bandwidth;
}

Network::Submission PipelineNetwork::submission(Collective kind, double bytes, const Group& group) const {
  const CollectiveCost cost = collective_cost(kind, bytes, group.span, links_);
  return {.route = group.route, .queue = group.queue, .latency = cost.latency, .bytes = cost.bytes};
}

Network::Submission PipelineNetwork::data_parallel(Collective kind, int rank, double bytes) const {
  return submission(kind, bytes, replicas_[at(rank)]);
}

Network::Submission PipelineNetwork::sum(const std::vector<int>& ranks, double bytes) {
  auto found = groups_.find(ranks);
  if (found == groups_.end()) {
    std::map<int, int> on_node;
    for (const int rank : ranks) ++on_node[node_of(rank)];
    GroupSpan span{.ranks = static_cast<int>(ranks.size()), .nodes = static_cast<int>(on_node.size())};
    for (const auto& [node, count] : on_node) span.per_node = std::max(span.per_node, count);
    found = groups_.emplace(ranks, connect(span, ranks)).first;
  }
  return submission(Collective::all_reduce, bytes, found->second);
}

}  // namespace foretoken

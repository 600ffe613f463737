#pragma once
// The connections between the ranks of a job, and what a collective costs on them. Plain data.

#include <limits>

#include "parallel/comm/link.h"
#include "parallel/grid.h"

namespace foretoken {

/// Rank r is on node r / per_node, because launchers fill one node after another. `inside` is the connection
/// of one rank to the other ranks of its node, such as NVLink through a switch. `between` is one network
/// adapter; a node has `adapters` of them, which its ranks share. Machines of eight GPUs usually have one
/// adapter for each GPU; a node of CPU ranks has one for all.
struct Links {
  Link inside;
  Link between;
  int per_node = std::numeric_limits<int>::max();  // ranks
  int adapters = 1;                                // of one node
  /// Whether ranks compute while they communicate. With MPI on CPUs a rank communicates only while it is in a
  /// call of MPI, and the call occupies its core.
  bool in_background = true;

  int node_of(int world_rank) const { return world_rank / per_node; }
};

/// The ranks of a collective.
struct GroupSpan {
  int ranks = 1;
  int nodes = 1;     // number of nodes with at least one of the ranks
  int per_node = 1;  // largest number of the ranks on one node
};

/// The data-parallel group of a pipeline rank.
GroupSpan data_parallel_span(const Grid& grid, int pp_rank, const Links& links);

enum class Collective { all_reduce, reduce_scatter, all_gather };

/// The time of a collective is latency + bytes / bandwidth of its slowest connection.
struct CollectiveCost {
  double latency = 0;  // s
  double bytes = 0;    // sent over each connection, in each direction
};

/// `bytes` is the size of the whole tensor. A collective is a ring through all ranks that enters and leaves
/// every node once: n ranks send (n−1)/n of the bytes in n−1 rounds, an all-reduce twice (Patarasuk and Yuan,
/// J. Parallel Distrib. Comput. 69, 2009). A round between nodes has the latency of `between`. An all-reduce
/// over several nodes may instead be a double binary tree (Sanders, Speck and Träff, Parallel Computing 35,
/// 2009), which sends all bytes twice at 0.9 of the bandwidth with a latency that grows with the logarithm of
/// the nodes; it is taken if it is faster. These are the costs by which NCCL chooses (src/graph/tuning.cc).
CollectiveCost collective_cost(Collective kind, double bytes, const GroupSpan& group, const Links& links);

/// Bandwidth of a collective's slowest connection if nothing else is sent. Between nodes, NCCL uses one
/// adapter for each rank of the group on a node, as far as the node has that number.
double collective_bandwidth(const GroupSpan& group, const Links& links);

/// The time of a collective that runs alone.
double collective_seconds(Collective kind, double bytes, const GroupSpan& group, const Links& links);

}  // namespace foretoken

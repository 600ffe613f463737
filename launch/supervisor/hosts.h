#pragma once
// The hosts on which `foretoken run` may start ranks, and which of them are available.

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace foretoken {

struct Host {
  std::string name;
  int slots = 1;  // maximum number of ranks
  bool operator==(const Host&) const = default;
};

/// Reads Open MPI's hostfile: one host per line, "name slots=4"; "#" starts a comment. A host that is listed
/// again adds its slots, as in Open MPI. Throws a UsageError that names the file and, if there is one, the
/// line.
std::vector<Host> read_hostfile(const std::string& path);

/// Example: "a:2,b:4".
std::string host_list(const std::vector<Host>& hosts);
int slots_of(const std::vector<Host>& hosts);

/// The hosts that a remote shell reaches: OMPI_MCA_plm_rsh_agent, or ssh if that is unset, runs "true" on all
/// hosts in parallel, with `limit` for each. This host is included without a check.
std::vector<Host> reachable(const std::vector<Host>& hosts,
                            std::chrono::seconds limit = std::chrono::seconds(10));

/// Tasks per node from SLURM_TASKS_PER_NODE: "2(x3),1" gives 2, 2, 2, 1. Empty if the text has another form.
std::vector<int> tasks_per_node(std::string_view text);

/// The nodes of this Slurm allocation that hold ranks, with their tasks. Empty if there is no allocation, or
/// if Slurm's commands fail.
std::vector<Host> allocated_hosts();

/// The given hosts that are still in the allocation and that slurmctld reaches, according to squeue and
/// sinfo. All given hosts if these commands fail.
std::vector<Host> allocated_and_up(const std::vector<Host>& hosts);

/// Whether a node in this state, as printed by sinfo's %T ("allocated", "down*"), can run ranks.
bool is_up(std::string_view slurm_state);

}  // namespace foretoken

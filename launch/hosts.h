#pragma once
// The hosts that `foretoken run` may start ranks on, and which of them are there.

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace foretoken {

struct Host {
  std::string name;
  int slots = 1;  // ranks
  bool operator==(const Host&) const = default;
};

/// Open MPI's hostfile: a host a line, "name slots=4"; "#" starts a comment. A host that is listed again adds
/// its slots, as in Open MPI. A UsageError that names the file, and the line where there is one.
std::vector<Host> read_hostfile(const std::string& path);

/// "a:2,b:4"
std::string host_list(const std::vector<Host>& hosts);
int slots_of(const std::vector<Host>& hosts);

/// Those that a remote shell reaches: OMPI_MCA_plm_rsh_agent, else ssh, runs "true" there, on all at once,
/// with `limit` for each. This host counts without a question.
std::vector<Host> reachable(const std::vector<Host>& hosts,
                            std::chrono::seconds limit = std::chrono::seconds(10));

/// Tasks of each node from SLURM_TASKS_PER_NODE, "2(x3),1" for 2, 2, 2, 1; empty where the text is another.
std::vector<int> tasks_per_node(std::string_view text);

/// The nodes of this Slurm allocation that hold ranks, with their tasks: empty where there is none, or where
/// Slurm's commands do not say.
std::vector<Host> allocated_hosts();

/// Those of them that are still in the allocation and that slurmctld reaches, by squeue and sinfo; all where
/// these do not answer.
std::vector<Host> allocated_and_up(const std::vector<Host>& hosts);

/// Whether a node in this state, as sinfo's %T prints it ("allocated", "down*"), can run ranks.
bool is_up(std::string_view slurm_state);

}  // namespace foretoken

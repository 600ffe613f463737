#pragma once
// The output of `foretoken doctor`.

#include <string>
#include <vector>

#include "launch/doctor/checks.h"

namespace foretoken {

/// The table with one row for each check, at most terminal_columns wide, then one line for each finding.
std::string report_text(const JobFacts& facts, const std::vector<Check>& checks);

/// The same as JSON, with the facts of every rank.
std::string report_json(const JobFacts& facts, const std::vector<Check>& checks, int exit_code);

/// A rank's facts as JSON and back. Ranks exchange them as this text.
std::string to_json_text(const RankFacts& facts);
RankFacts rank_facts_from(const std::string& json);

/// The content of the file of --save, for a job that was measured:
///
///   device, ranks, nodes               "cpu" or the GPU's name; numbers
///   matrix_rate, memory_bandwidth      medians of the ranks, FLOP/s and bytes/s
///   links.inside, links.between        latency (s) and bandwidth (bytes/s) of messages inside a node and
///                                      between nodes, medians; a kind that the job does not have is missing
///   links.per_node                     the most ranks on a node
///   all_reduce                         latency and bandwidth of all ranks (parallel/comm/link_rates.h)
std::string machine_json(const JobFacts& facts);

}  // namespace foretoken

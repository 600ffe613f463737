#pragma once
// The step that a run traced, and the same step simulated.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/report/trace.h"
#include "launch/config/config.h"
#include "parallel/grid.h"
#include "parallel/pipeline/program.h"
#include "parallel/planning/links.h"
#include "parallel/planning/simulate.h"

namespace foretoken {

/// Whether a span of a trace is an action of the program: "2F0".
bool is_action(const TimelineSpan& span);

/// Times of messages in a trace, in seconds: medians over the actions that waited for their message, from the
/// end of the action that sends it to the start of the one that waited. Empty if none waited.
struct MessageTimes {
  std::optional<double> inside;   // between ranks of one node
  std::optional<double> between;  // between ranks of two nodes
};
MessageTimes message_times(std::span<const TracedRank> trace, const Program& program, const Grid& grid,
                           const Links& nodes);

struct SimulatedStep {
  SimulatedTimeline timeline;  // of one pipeline, in seconds
  MessageTimes messages;       // that were assumed; a missing one is free
};
/// Simulates the step with the durations by which layers are assigned to stages, scaled to as much time in
/// actions as in the trace, and with the trace's message times. `nodes` has the number of ranks of a node.
/// Throws an Error if the configuration does not fit the trace.
SimulatedStep simulate_traced(std::span<const TracedRank> trace, const Config& config, const Links& nodes);

/// The ranks to draw of a long list, ascending, and which they are.
struct DrawnRanks {
  std::vector<std::size_t> ranks;  // indices
  std::vector<std::string> notes;  // lines of text; empty if all are drawn
};
/// At most `most` ranks of a trace of pipelines of `pp` neighbouring ranks: the pipelines whose slowest rank
/// computed longest, whole if they fit, otherwise evenly spaced ranks of one of them.
DrawnRanks drawn_ranks(std::span<const TracedRank> trace, int pp, std::size_t most);
/// `most` of the ranks of a pipeline, evenly spaced, the first and the last among them; all if they fit.
std::vector<std::size_t> spaced_ranks(std::size_t ranks, std::size_t most);

}  // namespace foretoken

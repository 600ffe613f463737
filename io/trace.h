#pragma once
// A step's timeline over all ranks as a file in Chrome's trace event format (JSON), which Perfetto and
// chrome://tracing draw: a process per rank, a row per lane.

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "runtime/timeline.h"

namespace foretoken {

/// A rank's events, as they stand in the file: {"ph": "X", "pid": rank, "tid": lane, "ts", "dur" in µs, ...}
/// and the names of rank and lanes.
std::string trace_events(int rank, const std::string& name, std::span<const TimelineSpan> spans);

/// The file of all ranks' events. A DataError where it cannot be written.
void write_trace(const std::filesystem::path& file, std::span<const std::string> events_of_ranks);

/// How much of a rank's communication ran under its compute. Receives do not count: a message's sender has
/// it, and what a receive adds is waiting for the sender to begin.
struct TraceOverlap {
  double length = 0;         // seconds, from the first span's begin to the last one's end
  double compute = 0;        // in which a compute span ran
  double communication = 0;  // in which one of communication ran
  double hidden = 0;         // in which both did
};
TraceOverlap overlap_of(std::span<const TimelineSpan> spans);

}  // namespace foretoken

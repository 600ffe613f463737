#pragma once
// A step's timeline over all ranks as a file in Chrome's trace event format (JSON), for Perfetto and
// chrome://tracing: one process per rank, one row per lane.

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "runtime/timing/timeline.h"

namespace foretoken {

/// A rank's events as in the file, {"ph": "X", "pid": rank, "tid": lane, "ts", "dur" in µs, ...}, and the
/// names of rank and lanes.
std::string trace_events(int rank, const std::string& name, std::span<const TimelineSpan> spans);

/// Writes the file with all ranks' events. Throws a DataError if it cannot be written.
void write_trace(const std::filesystem::path& file, std::span<const std::string> events_of_ranks);

/// A rank's part of a trace.
struct TracedRank {
  int rank = 0;
  std::vector<TimelineSpan> spans;
};
/// Reads a file that write_trace() wrote, ascending by rank. Throws a DataError if it cannot be read or is
/// not a trace.
std::vector<TracedRank> read_trace(const std::filesystem::path& file);

/// Communication of a rank that was hidden by its compute. Receives are not counted: the time of a message is
/// counted at its sender, and a receive lasts longer only because it waits for the sender.
struct TraceOverlap {
  double length = 0;         // seconds from the first span's start to the last span's end
  double compute = 0;        // seconds in which a compute span ran
  double communication = 0;  // seconds in which a communication span ran
  double hidden = 0;         // seconds in which both ran
};
TraceOverlap overlap_of(std::span<const TimelineSpan> spans);

}  // namespace foretoken

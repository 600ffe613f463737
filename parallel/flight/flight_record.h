#pragma once
// The file of a flight record: text with one item per line, so that people can read it too.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "parallel/flight/flight_recorder.h"
#include "parallel/job.h"

namespace foretoken {

/// Identifies a rank for the user: host, process and label in the layout.
struct RankIdentity {
  int pid = 0;  // 0: unknown
  std::string host;
  std::string label;  // "pp1 dp0", may be empty
};

/// A time in which a process did not run: it was stopped, or its machine was.
struct Pause {
  double seconds = 0;
  double before_record = 0;  // from the pause's end to the record, seconds
};

struct FlightFile {
  FlightRecord record;
  std::optional<Pause> pause;           // the last one, if there was any
  std::string reason;                   // why the record was written, one line
  std::vector<RankIdentity> ranks;      // identity of each rank, by world rank; may be empty
  std::vector<LocalProcess> processes;  // ranks on the same host
};

/// Example: "rank_00003.txt".
std::string flight_file_name(int rank);

std::string to_text(const FlightFile& file);
/// Throws DataError, naming `origin` and line, if the text is not a flight record.
FlightFile parse_flight_file(const std::string& text, const std::string& origin);

/// Writes the record to flight_file_name() of its rank in `folder`, and creates the folder if necessary. The
/// file is written under a temporary name and then renamed. Throws DataError if the file cannot be written.
void write_flight_file(const std::filesystem::path& folder, const FlightFile& file);

/// Returns all records of a folder, in rank order. Throws DataError if one cannot be read.
std::vector<FlightFile> read_flight_files(const std::filesystem::path& folder);

}  // namespace foretoken

#pragma once
// The file of a flight record: text, one line an item, so that people can read it as well.

#include <filesystem>
#include <string>
#include <vector>

#include "parallel/flight_recorder.h"

namespace foretoken {

/// A rank as people find it: host and process, and its place in the layout.
struct RankIdentity {
  int pid = 0;  // 0: unknown
  std::string host;
  std::string label;  // "pp1 dp0", may be empty
};

/// State of a process on the host of the rank that wrote the record, as the kernel gives it: 'R' runs, 'S'
/// sleeps, 'D' waits for a device, 'T' is stopped, 'Z' has ended.
struct LocalProcess {
  int rank = 0;
  int pid = 0;
  char state = '?';
};

struct FlightFile {
  FlightRecord record;
  std::string reason;                   // one line: why it was written
  std::vector<RankIdentity> ranks;      // of all ranks as far as they are known, by world rank; may be empty
  std::vector<LocalProcess> processes;  // ranks of the same host
};

/// "rank_00003.txt"
std::string flight_file_name(int rank);

std::string to_text(const FlightFile& file);
/// A DataError that names `origin` and the line where the text is not a flight record.
FlightFile parse_flight_file(const std::string& text, const std::string& origin);

/// Writes rank_00003.txt in `folder`, which it makes, under another name first and then renamed. A DataError
/// where it cannot be written.
void write_flight_file(const std::filesystem::path& folder, const FlightFile& file);

/// All records of a folder, by rank. A DataError where one cannot be read.
std::vector<FlightFile> read_flight_files(const std::filesystem::path& folder);

}  // namespace foretoken

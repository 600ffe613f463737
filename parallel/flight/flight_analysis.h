#pragma once
// Finds the rank and the operation that the other ranks wait for, from the flight records of a job.
//
// Ranks and operations are matched by channel name and sequence number. A rank that waits in a collective
// waits for every member that has not started it or, if all have, for a member that another operation blocks.
// A rank that waits for a message waits likewise for its peer. Unless ranks wait for each other, these edges
// end at a rank that waits for no other: it left no record (stopped), is in no communication (computes or
// hangs in a system call), or waits in an operation that all have entered (connection).

#include <string>
#include <vector>

#include "parallel/flight/flight_record.h"

namespace foretoken {

struct Divergence {
  enum class Kind {
    none,        // no rank waits
    mismatch,    // ranks entered different operations under the same sequence number of a channel
    no_record,   // ranks left no record: stopped or ended
    paused,      // the process of a rank did not run while another one waited beyond its limit
    absent,      // ranks are in no communication
    late,        // a rank came when another one had waited for it beyond its limit
    cycle,       // ranks wait for each other
    connection,  // every rank entered the operation, and it does not complete
  };

  Kind kind = Kind::none;
  /// The ranks that block the job, ascending. Kind::connection: the ranks at its ends; Kind::mismatch: the
  /// two that differ.
  std::vector<int> ranks;
  /// Other ranks that wait for `ranks`, directly or through others, ascending.
  std::vector<int> waiting;
  /// An operation in which some rank waits directly for one of `ranks`, if possible a collective: "all-reduce
  /// #418 of \"dp of pp1\"".
  std::string operation;
  /// Kind::mismatch: the operation that ranks[1] entered under the same sequence number.
  std::string other;
  /// Kind::absent: seconds since the last communication of ranks[0]. Kind::paused: seconds for which ranks[0]
  /// did not run while waiting[0] waited. Kind::late: seconds by which ranks[0] came after waiting[0], to
  /// about 2 s.
  double seconds = 0;
};

/// Describes an operation of that record: "send #3 from rank 1 to rank 2 with tag 5 of \"pipeline of dp0\"".
std::string describe(const FlightRecord& record, const FlightRecord::Operation& operation);

/// The analysis, a pure function. `files` holds at most one record per rank. If several kinds apply, the
/// result is the first of them in the order of the enum after `none`.
Divergence first_divergence(const std::vector<FlightFile>& files, int size);

}  // namespace foretoken

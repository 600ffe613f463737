#pragma once
// Finds, from the flight records of a job's ranks, the rank and the operation for which the others wait.
//
// Ranks and operations are matched by channel name and sequence number. A rank that waits in a collective
// waits for every member that has not started it; one that waits for a message waits for a peer that has not
// started its end. Following these edges leads to a rank that waits for nobody: a stopped rank has no record,
// a rank that computes or hangs in a system call is in no communication.

#include <string>
#include <vector>

#include "parallel/flight_record.h"

namespace foretoken {

struct Divergence {
  enum class Kind {
    none,        // no rank waits
    mismatch,    // ranks entered different operations as the same number of a channel
    no_record,   // ranks left no record: stopped, or gone
    absent,      // ranks are in no communication
    cycle,       // ranks wait for each other
    connection,  // every rank entered what is waited for, and it does not complete
  };

  Kind kind = Kind::none;
  /// Who is stuck, ascending. Of a connection the ranks at its ends; of a mismatch the two that differ.
  std::vector<int> ranks;
  /// Ranks that wait for them, directly or through others, ascending.
  std::vector<int> waiting;
  /// The operation that the first of `waiting` to wait for one of `ranks` is in: "all-reduce #418 of \"dp of
  /// pp1\"".
  std::string operation;
  /// Kind::mismatch: the operation of ranks[1] at the same place.
  std::string other;
  /// Kind::absent: seconds since the last communication of ranks[0]; Kind::no_record: 0.
  double seconds = 0;
};

/// "send #3 from rank 1 to rank 2 with tag 5 of \"pipeline of dp0\"", an operation of that record.
std::string describe(const FlightRecord& record, const FlightRecord::Operation& operation);

/// The analysis: a pure function. `files` holds at most one record of a rank. Where several things are wrong
/// the first of the kinds above, from mismatch on, is named.
Divergence first_divergence(const std::vector<FlightFile>& files, int size);

/// "rank 2 (pp1 dp0, host h, pid 7), which is stopped, did not enter all-reduce #418 of \"dp of pp1\"; all
/// other ranks wait for it"
std::string sentence(const Divergence& divergence, const std::vector<FlightFile>& files, int size);

}  // namespace foretoken

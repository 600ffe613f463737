#pragma once
// Measures messages, all-reduces and clocks of a job over the communicators that training uses. Every
// function is collective over its group and repeats each measurement; the best repetition counts, because
// other programs can only make one slower.

#include <optional>

#include "parallel/comm/link.h"
#include "parallel/comm/transport.h"

namespace foretoken {

/// Messages between this rank and the next rank of a pipeline group, one way. The links 0-1, 2-3, … are
/// measured at the same time, then 1-2, 3-4, …. `buffer` is the message whose bandwidth is measured; it is
/// overwritten. Returns the link; empty on the last rank.
std::optional<Link> measure_next_link(Communicator& pipeline, Transport& transport, const Tensor& buffer);

/// Latency: the time of an all-reduce of one element. Bandwidth: 2 (n-1)/n · bytes of `buffer` / time, the
/// rate at which each of the n ranks sends in a ring. The buffer is overwritten. Both are zero for a
/// group of one rank.
Link measure_all_reduce(Communicator& group, Transport& transport, const Tensor& buffer);

struct ClockOffset {
  double seconds = 0;      // the rank's clock minus that of rank 0
  double uncertainty = 0;  // half of the shortest round trip
};
/// Compares the system clock of `rank` with that of rank 0. Rank 0 and `rank` call it; returns the offset on
/// both.
ClockOffset measure_clock_offset(Communicator& host_group, int rank);

}  // namespace foretoken

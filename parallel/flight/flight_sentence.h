#pragma once
// Says in a sentence which rank the others wait for.

#include <string>
#include <vector>

#include "parallel/flight/flight_analysis.h"

namespace foretoken {

/// "rank 2 (pp1 dp0, host h, pid 7), whose process is stopped, did not complete all-reduce #418 of
/// \"dp of pp1\" and left no flight record; all other ranks wait for it"
std::string sentence(const Divergence& divergence, const std::vector<FlightFile>& files, int size);

}  // namespace foretoken

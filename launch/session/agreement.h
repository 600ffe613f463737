#pragma once
// Short texts and faults that ranks exchange.

#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace foretoken {

/// Returns root's text on every rank. Collective.
std::string broadcast_text(Communicator& world, const std::string& text, int root = 0);

/// Returns every rank's text on rank 0, in rank order; empty on other ranks. Collective.
std::vector<std::string> gather_texts(Communicator& world, const std::string& text);

/// Returns the fault of the first rank that has one, on every rank; empty if none has. Each rank passes its
/// own fault, or an empty text. Collective.
std::string first_fault(Communicator& world, const std::string& fault);

}  // namespace foretoken

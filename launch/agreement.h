#pragma once
// Ranks telling each other short things: a text, or that something went wrong on one of them.

#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace foretoken {

/// root's text on every rank. Collective.
std::string broadcast_text(Communicator& world, const std::string& text, int root = 0);

/// Every rank's text on rank 0, in rank order; on the others nothing. Collective.
std::vector<std::string> gather_texts(Communicator& world, const std::string& text);

/// What the first rank with a fault says is wrong, on every rank; empty where no rank has one. Collective:
/// each rank gives its own fault, or an empty text.
std::string first_fault(Communicator& world, const std::string& fault);

}  // namespace foretoken

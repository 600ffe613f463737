#pragma once
// Ranks telling each other short things: a text, or that something went wrong on one of them.

#include <string>

#include "parallel/communicator.h"

namespace foretoken {

/// root's text on every rank. Collective.
std::string broadcast_text(Communicator& world, const std::string& text, int root = 0);

/// What the first rank with a fault says is wrong, on every rank; empty where no rank has one. Collective:
/// each rank gives its own fault, or an empty text.
std::string first_fault(Communicator& world, const std::string& fault);

}  // namespace foretoken

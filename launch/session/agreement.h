#pragma once
// Ranks exchange short texts and error messages.

#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace foretoken {

/// Returns root's text on every rank. Collective.
std::string broadcast_text(Communicator& world, const std::string& text, int root = 0);

/// Returns every rank's text on rank 0, in rank order; empty on other ranks. Collective.
std::vector<std::string> gather_texts(Communicator& world, const std::string& text);

/// Each rank passes its error message, or an empty text if it has no error. Returns the message of the lowest
/// rank that has one, on every rank; empty if no rank has one. Collective.
std::string first_error(Communicator& world, const std::string& message);

}  // namespace foretoken

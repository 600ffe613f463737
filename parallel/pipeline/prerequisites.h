#pragma once
// The single definition of what a pipeline action waits for. Lowering adds the messages that it requires; the
// validator checks it, and the simulator computes times from it.

#include <vector>

#include "parallel/pipeline/program.h"

namespace foretoken {

/// Returns the prerequisites of an action. For a compute action: the actions that must complete before it
/// starts; these are messages if the neighbour stage is on another rank. For a send: the action whose result
/// it sends. For a receive: the send that completes it (posting a receive has no prerequisite).
///
///   F(s,m)   waits for  RF(s,m), or F(s−1,m) on the same rank; nothing at the first stage
///   B, I     wait for   F(s,m) and RB(s,m), or I(s+1,m) on the same rank; at the last stage only F(s,m)
///   W(s,m)   waits for  I(s,m)
///   SF(s,m)  waits for  F(s,m)         RF(s,m)  waits for  SF(s−1,m)
///   SB(s,m)  waits for  I(s,m)         RB(s,m)  waits for  SB(s+1,m)
///
/// I is the input gradient; a whole backward computes it too (see fulfils()).
std::vector<Action> prerequisites(const Action& action, const PipelineShape& shape);

/// Whether `done` satisfies the prerequisite `needed`: the same action, or the whole backward if `needed` is
/// one of its halves.
bool fulfils(const Action& done, const Action& needed);

}  // namespace foretoken

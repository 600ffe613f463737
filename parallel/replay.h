#pragma once
// Replays all ranks of a lowered program against the message protocol: what the validator and the simulator
// share.

#include <functional>
#include <map>
#include <vector>

#include "parallel/program.h"

namespace foretoken {

/// Where an action stands in a program.
struct Position {
  int rank = 0;
  int index = 0;
};

/// Both ends of a message. It is under way once both are reached, and only then: a rendezvous, the worst
/// that a transport may do.
struct Message {
  Position send;
  Position receive;
};

/// Positions of all actions of a program in which no action stands twice.
class ProgramIndex {
 public:
  explicit ProgramIndex(const Program& program);

  /// Where the action stands, or the whole backward that fulfils it; nullptr where nothing does.
  const Position* find(const Action& action) const;

 private:
  std::map<Action, Position> positions_;
};

/// "rank 1, action 7 (1B0)"
std::string describe(const Program& program, const Position& position);

/// Called for each action in an order in which the ranks can run, with the messages that must have arrived
/// before it starts: those it takes as input, and for one that writes a send buffer the last message out of
/// it.
using ReplayVisitor = std::function<void(const Position&, const std::vector<Message>& awaited)>;

/// A UsageError, where ranks wait for each other for good, says where each stands and for what. The program's
/// actions and messages must be complete, each stage with the slots that keep its microbatches apart.
void replay(const Program& lowered, const std::vector<int>& slots, const ReplayVisitor& visit);

}  // namespace foretoken

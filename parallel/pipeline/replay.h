#pragma once
// Replays all ranks of a lowered program against the message protocol; used by the validator and the
// simulator.

#include <functional>
#include <vector>

#include "parallel/pipeline/action_table.h"
#include "parallel/pipeline/program.h"

namespace foretoken {

/// Position of an action in a program.
struct Position {
  int rank = 0;
  int index = 0;
};

/// Both ends of a message. The transfer starts only when both ranks have reached their ends (rendezvous), the
/// most restrictive behaviour that a transport may have.
struct Message {
  Position send;
  Position receive;
};

/// Positions of all actions of a program, which must contain no action twice and none outside of its shape.
class ProgramIndex {
 public:
  explicit ProgramIndex(const Program& program);

  /// Position of the action, or of the whole backward that fulfils it; nullptr if the program has neither.
  const Position* find(const Action& action) const;

 private:
  ActionTable<Position> positions_;  // index −1: not in the program
};

/// Example: "rank 1, action 7 (1B0)".
std::string describe(const Program& program, const Position& position);

/// Is called for each action, in an order in which the ranks can run them. `awaited` are the messages that
/// must have arrived before the action starts: its inputs and, if the action writes a send buffer, the last
/// message sent from that buffer.
using ReplayVisitor = std::function<void(const Position&, const std::vector<Message>& awaited)>;

/// Throws UsageError on a deadlock, naming for each blocked rank its action and the one it waits for. The
/// program's actions and messages must be complete, and `slots` must keep the live microbatches of each stage
/// in different slots.
void replay(const Program& lowered, const std::vector<int>& slots, const ReplayVisitor& visit);

}  // namespace foretoken

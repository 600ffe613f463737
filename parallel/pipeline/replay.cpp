#include "parallel/pipeline/replay.h"

#include <fmt/format.h>

#include "parallel/pipeline/prerequisites.h"
#include "runtime/error.h"

namespace foretoken {

ProgramIndex::ProgramIndex(const Program& program) : positions_(program.shape, Position{.index = -1}) {
  for (int rank = 0; const std::vector<Action>& actions : program.ranks) {
    for (int index = 0; const Action& action : actions) positions_[action] = Position{rank, index++};
    ++rank;
  }
}

const Position* ProgramIndex::find(const Action& action) const {
  if (!positions_.covers(action)) return nullptr;
  if (const Position& found = positions_[action]; found.index >= 0) return &found;
  const Action whole{ActionKind::backward, action.stage, action.microbatch};
  const Position& found = positions_[whole];
  return found.index >= 0 && fulfils(whole, action) ? &found : nullptr;
}

std::string describe(const Program& program, const Position& position) {
  const Action& action =
      program.ranks[static_cast<std::size_t>(position.rank)][static_cast<std::size_t>(position.index)];
  return fmt::format("rank {}, action {} ({})", position.rank, position.index, to_string(action));
}

namespace {

class Replay {
 public:
  Replay(const Program& program, const std::vector<int>& slots)
      : program_(program), index_(program), next_(program.ranks.size(), 0) {
    for (const int count : slots) last_sends_.push_back(SlotSends(static_cast<std::size_t>(count)));
  }

  void run(const ReplayVisitor& visit) {
    for (bool progress = true; progress;) {
      progress = false;
      for (int rank = 0; rank < program_.shape.pp; ++rank)
        for (; !finished(rank); ++next_[at(rank)], progress = true) {
          const std::vector<Message> awaited = messages_awaited(here(rank));
          bool ready = true;
          for (const Message& message : awaited)
            ready = ready && reached(message.send) && reached(message.receive);
          if (!ready) break;
          remember_send(here(rank));
          visit({rank, next_[at(rank)]}, awaited);
        }
    }
    for (int rank = 0; rank < program_.shape.pp; ++rank)
      if (!finished(rank)) throw UsageError("pipeline program: deadlock: {}", describe_waits());
  }

 private:
  // By slot: the microbatch whose activation (gradient) was sent last; -1 before the first send.
  struct SlotSends {
    explicit SlotSends(std::size_t slots) : activation(slots, -1), gradient(slots, -1) {}
    std::vector<int> activation;
    std::vector<int> gradient;
  };

  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  bool finished(int rank) const { return at(next_[at(rank)]) == program_.ranks[at(rank)].size(); }
  bool reached(const Position& position) const { return position.index < next_[at(position.rank)]; }
  const Action& here(int rank) const { return program_.ranks[at(rank)][at(next_[at(rank)])]; }

  int& last_sent(ActionKind send, int stage, int microbatch) {
    SlotSends& sends = last_sends_[at(stage)];
    std::vector<int>& last = send == ActionKind::send_activation ? sends.activation : sends.gradient;
    return last[at(microbatch) % last.size()];
  }

  void remember_send(const Action& action) {
    if (is_send(action.kind)) last_sent(action.kind, action.stage, action.microbatch) = action.microbatch;
  }

  Message message_of(const Action& receive) const {
    return {*index_.find(prerequisites(receive, program_.shape).front()), *index_.find(receive)};
  }

  std::vector<Message> messages_awaited(const Action& action) {
    std::vector<Message> messages;
    if (!is_compute(action.kind) || action.kind == ActionKind::backward_weight) return messages;
    for (const Action& needed : prerequisites(action, program_.shape))
      if (is_receive(needed.kind)) messages.push_back(message_of(needed));
    const bool forward = action.kind == ActionKind::forward;
    const int previous = last_sent(forward ? ActionKind::send_activation : ActionKind::send_gradient,
                                   action.stage, action.microbatch);
    if (previous >= 0)
      messages.push_back(forward ? message_of({ActionKind::receive_activation, action.stage + 1, previous})
                                 : message_of({ActionKind::receive_gradient, action.stage - 1, previous}));
    return messages;
  }

  std::string describe_waits() {
    std::string text;
    for (int rank = 0; rank < program_.shape.pp; ++rank) {
      if (finished(rank)) continue;
      for (const Message& message : messages_awaited(here(rank)))
        for (const Position& end : {message.send, message.receive})
          if (!reached(end))
            text += fmt::format("{}{} waits for {}", text.empty() ? "" : "; ",
                                describe(program_, {rank, next_[at(rank)]}), describe(program_, end));
    }
    return text;
  }

  const Program& program_;
  ProgramIndex index_;
  std::vector<int> next_;  // by rank: index of the first action that has not run
  std::vector<SlotSends> last_sends_;
};

}  // namespace

void replay(const Program& lowered, const std::vector<int>& slots, const ReplayVisitor& visit) {
  Replay(lowered, slots).run(visit);
}

}  // namespace foretoken

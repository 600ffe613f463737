#include "parallel/pipeline/validate_program.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "parallel/pipeline/action_table.h"
#include "parallel/pipeline/prerequisites.h"
#include "parallel/pipeline/replay.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

using enum ActionKind;

template <class Visit>
void for_each_action(const Program& program, Visit visit) {
  for (int rank = 0; const std::vector<Action>& actions : program.ranks) {
    for (int index = 0; const Action& action : actions) visit(action, Position{rank, index++});
    ++rank;
  }
}

bool has_backward(const Program& program) {
  bool found = false;
  for_each_action(program, [&](const Action& action, const Position&) {
    found |= is_compute(action.kind) && action.kind != forward;
  });
  return found;
}

void check_shape(const Program& program) {
  const PipelineShape& shape = program.shape;
  if (shape.pp < 1 || shape.virtual_stages < 1 || shape.microbatches < 1)
    throw UsageError("pipeline program: {}: every factor must be at least 1", to_string(shape));
  if (program.ranks.size() != static_cast<std::size_t>(shape.pp))
    throw UsageError("pipeline program: {}, but the program has actions for {}", to_string(shape),
                     counted(program.ranks.size(), "rank"));
}

void check_each_place(const Program& program) {
  const PipelineShape& shape = program.shape;
  for_each_action(program, [&](const Action& action, const Position& position) {
    if (action.stage < 0 || action.stage >= shape.stages() || action.microbatch < 0 ||
        action.microbatch >= shape.microbatches)
      throw UsageError("pipeline program: {}: out of range for {}", describe(program, position),
                       to_string(shape));
    if (shape.rank_of(action.stage) != position.rank)
      throw UsageError("pipeline program: {}: stage {} belongs to rank {}", describe(program, position),
                       action.stage, shape.rank_of(action.stage));
  });
}

[[noreturn]] void throw_missing(const Program& program, const Action& action) {
  throw UsageError("pipeline program: rank {} lacks {} ({})", program.shape.rank_of(action.stage),
                   to_string(action), to_string(program.shape));
}

/// A short text can have the shape of a huge program, for which a table of all actions has no memory.
void check_forwards(const Program& program) {
  std::set<Action> actions;
  for_each_action(program, [&](const Action& action, const Position&) { actions.insert(action); });
  const PipelineShape& shape = program.shape;
  for (int stage = 0; stage < shape.stages(); ++stage)
    for (int m = 0; m < shape.microbatches; ++m)
      if (const Action action{forward, stage, m}; !actions.contains(action)) throw_missing(program, action);
}

void check_repetitions(const Program& program) {
  ActionTable<int> seen(program.shape, -1);  // index of the action in its rank
  for_each_action(program, [&](const Action& action, const Position& position) {
    if (seen[action] >= 0)
      throw UsageError("pipeline program: {}: repeats action {}", describe(program, position), seen[action]);
    seen[action] = position.index;
  });
  for_each_action(program, [&](const Action& action, const Position& position) {
    const Action whole{backward, action.stage, action.microbatch};
    if ((action.kind == backward_input || action.kind == backward_weight) && seen[whole] >= 0)
      throw UsageError("pipeline program: {}: the program also contains the whole backward {}",
                       describe(program, position), to_string(whole));
  });
}

void check_complete(const Program& program, const ProgramIndex& index) {
  std::vector<ActionKind> kinds = {forward};
  if (has_backward(program)) kinds.insert(kinds.end(), {backward_input, backward_weight});
  for (int stage = 0; stage < program.shape.stages(); ++stage)
    for (int m = 0; m < program.shape.microbatches; ++m)
      for (const ActionKind kind : kinds)
        if (!index.find({kind, stage, m})) throw_missing(program, {kind, stage, m});
}

/// Checks that every action follows its prerequisites on its own rank, and that every message has both ends
/// and is needed.
void check_waits(const Program& program, const ProgramIndex& index) {
  ActionTable<char> is_needed(program.shape, 0);  // by message
  const auto require = [&](const Action& needed, const Position& by) -> const Position& {
    const Position* found = index.find(needed);
    if (!found)
      throw UsageError("pipeline program: {}: waits for {}, which the program does not contain",
                       describe(program, by), to_string(needed));
    return *found;
  };
  for_each_action(program, [&](const Action& action, const Position& position) {
    if (is_receive(action.kind)) return;
    for (const Action& needed : prerequisites(action, program.shape)) {
      const Position& found = require(needed, position);
      if (found.index > position.index)
        throw UsageError("pipeline program: {}: comes before {}, which it waits for",
                         describe(program, position), describe(program, found));
      if (is_compute(action.kind) && is_receive(needed.kind)) {
        const Action send = prerequisites(needed, program.shape).front();
        require(send, found);
        is_needed[needed] = is_needed[send] = 1;
      }
    }
  });
  for_each_action(program, [&](const Action& action, const Position& position) {
    if (!is_compute(action.kind) && !is_needed[action])
      throw UsageError("pipeline program: {}: no action needs this message", describe(program, position));
  });
}

/// Checks that sends and receives of each channel (sender, receiver, kind of receive) pair up in order.
void check_channels(const Program& program, const ProgramIndex& index) {
  std::map<std::tuple<int, int, ActionKind>, Position> last_sends;
  for_each_action(program, [&](const Action& action, const Position& position) {
    if (!is_receive(action.kind)) return;
    const Position send = *index.find(prerequisites(action, program.shape).front());
    const auto [last, is_first] = last_sends.emplace(std::tuple(send.rank, position.rank, action.kind), send);
    if (!is_first && send.index < last->second.index)
      throw UsageError(
          "pipeline program: {}: this receive is posted after {}, but its message is sent earlier",
          describe(program, position), describe(program, last->second));
    last->second = send;
  });
}

/// The time in which a microbatch occupies a slot of a stage, as indices of the rank's actions.
struct Life {
  int begin;  // index of the first action
  int end;    // index of the last compute action
};

int fewest_slots(const std::vector<Life>& lives) {
  std::vector<std::size_t> by_begin(lives.size());
  for (std::size_t m = 0; m < lives.size(); ++m) by_begin[m] = m;
  std::sort(by_begin.begin(), by_begin.end(),
            [&](std::size_t a, std::size_t b) { return lives[a].begin < lives[b].begin; });
  for (std::size_t slots = 1; slots < lives.size(); ++slots) {
    std::vector<int> free_after(slots, -1);
    const bool apart = std::all_of(by_begin.begin(), by_begin.end(), [&](std::size_t m) {
      int& free = free_after[m % slots];
      if (lives[m].begin <= free) return false;
      free = lives[m].end;
      return true;
    });
    if (apart) return static_cast<int>(slots);
  }
  return static_cast<int>(lives.size());
}

ProgramFootprint footprint_of(const Program& program) {
  const auto stages = static_cast<std::size_t>(program.shape.stages());
  const auto microbatches = static_cast<std::size_t>(program.shape.microbatches);
  std::vector<std::vector<Life>> lives(stages, std::vector<Life>(microbatches, Life{-1, -1}));
  ProgramFootprint footprint{std::vector<int>(stages), std::vector<int>(stages)};
  std::vector<int> in_flight(stages);
  const bool training = has_backward(program);
  for_each_action(program, [&](const Action& action, const Position& position) {
    const auto stage = static_cast<std::size_t>(action.stage);
    Life& life = lives[stage][static_cast<std::size_t>(action.microbatch)];
    if (life.begin < 0) life.begin = position.index;
    if (is_compute(action.kind)) life.end = position.index;
    if (training && action.kind == forward)
      footprint.in_flight[stage] = std::max(footprint.in_flight[stage], ++in_flight[stage]);
    if (action.kind == backward || action.kind == backward_weight) --in_flight[stage];
  });
  for (std::size_t stage = 0; stage < stages; ++stage) footprint.slots[stage] = fewest_slots(lives[stage]);
  return footprint;
}

}  // namespace

ProgramFootprint validate_program(const Program& lowered) {
  check_shape(lowered);
  check_each_place(lowered);
  std::int64_t actions = 0;
  for (const std::vector<Action>& of_rank : lowered.ranks) actions += std::ssize(of_rank);
  if (actions < std::int64_t{lowered.shape.stages()} * lowered.shape.microbatches) check_forwards(lowered);
  check_repetitions(lowered);
  const ProgramIndex index(lowered);
  check_complete(lowered, index);
  check_waits(lowered, index);
  check_channels(lowered, index);
  ProgramFootprint footprint = footprint_of(lowered);
  replay(lowered, footprint.slots, [](const Position&, const std::vector<Message>&) {});
  return footprint;
}

}  // namespace foretoken

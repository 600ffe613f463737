#pragma once
// A pipeline schedule as data: for each pipeline rank the actions of one training step, in order.
//
// A generator (schedules.h) returns compute actions only; lowering (lower_program.h) adds the messages
// between ranks; the validator, the simulator and the executor read the lowered program.
//
// In text form an action is its stage, its letters and its microbatch, and each rank is one line:
//   0F0 0SF0 0F1 0SF1 0RB0 0B0 0RB1 0B1
//   1RF0 1F0 1B0 1SB0 1RF1 1F1 1B1 1SB1

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace foretoken {

enum class ActionKind : std::uint8_t {
  forward,             // F
  backward,            // B, both halves
  backward_input,      // I, gradient of the stage's input
  backward_weight,     // W, gradients of the stage's weights
  send_activation,     // SF, output to the next stage
  receive_activation,  // RF, input from the previous stage
  send_gradient,       // SB, input gradient to the previous stage
  receive_gradient,    // RB, output gradient from the next stage
};

/// The letters of a printed action (runtime/enum_names.h).
constexpr std::string_view name_of(ActionKind kind) {
  switch (kind) {
    case ActionKind::forward:
      return "F";
    case ActionKind::backward:
      return "B";
    case ActionKind::backward_input:
      return "I";
    case ActionKind::backward_weight:
      return "W";
    case ActionKind::send_activation:
      return "SF";
    case ActionKind::receive_activation:
      return "RF";
    case ActionKind::send_gradient:
      return "SB";
    case ActionKind::receive_gradient:
      return "RB";
  }
  return {};
}

struct Action {
  ActionKind kind = ActionKind::forward;
  int stage = 0;  // virtual stage, numbered over the whole model
  int microbatch = 0;

  friend auto operator<=>(const Action&, const Action&) = default;
};

constexpr bool is_compute(ActionKind kind) {
  return kind <= ActionKind::backward_weight;
}
constexpr bool is_send(ActionKind kind) {
  return kind == ActionKind::send_activation || kind == ActionKind::send_gradient;
}
constexpr bool is_receive(ActionKind kind) {
  return kind == ActionKind::receive_activation || kind == ActionKind::receive_gradient;
}

/// Dimensions of a program. Virtual stage s of pp·v is on pipeline rank s mod pp (looped placement).
struct PipelineShape {
  int pp = 1;              // pipeline ranks
  int virtual_stages = 1;  // stages per rank (v)
  int microbatches = 1;

  int stages() const { return pp * virtual_stages; }
  int rank_of(int stage) const { return stage % pp; }
  friend bool operator==(const PipelineShape&, const PipelineShape&) = default;
};

struct Program {
  PipelineShape shape;
  std::vector<std::vector<Action>> ranks;  // [pp], actions of each rank in execution order

  friend bool operator==(const Program&, const Program&) = default;
};

/// Examples: "2F0", "2SB0".
std::string to_string(const Action& action);
/// Example: "pp 4 × v 2, 8 microbatches".
std::string to_string(const PipelineShape& shape);
/// One line per rank, actions separated by one space.
std::string to_string(const Program& program);

/// Inverse of to_string(Program). The shape is the smallest that contains every action: one rank per line,
/// and the highest stage and microbatch. Throws UsageError, naming line and column, for text that is not an
/// action and for a stage that is not on the rank of its line.
Program parse_program(std::string_view text);

/// Whether the program has separate actions for input gradients and weight gradients.
bool has_split_backward(const Program& program);

}  // namespace foretoken

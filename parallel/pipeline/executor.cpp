#include "parallel/pipeline/executor.h"

#include <algorithm>

#include "runtime/error.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

namespace {

// MPI guarantees tags up to this (MPI 4.0, section 9.1.2).
constexpr int largest_tag = 32767;

}  // namespace

Executor::Executor(const Program& lowered, const ProgramFootprint& footprint, StageWork& work,
                   Communicator& pipeline, Stream& stream, ActionObserver* observer)
    : shape_(lowered.shape),
      slots_(footprint.slots),
      microbatch_tags_((largest_tag + 1) / (2 * shape_.stages())),
      work_(work),
      pipeline_(pipeline),
      stream_(stream),
      observer_(observer) {
  if (pipeline.size() != shape_.pp)
    throw DefectError("executor: a program for pp {}, but {} has {} ranks", shape_.pp, pipeline.name(),
                      pipeline.size());
  if (microbatch_tags_ < 1)
    throw UsageError("executor: {} stages, expected at most {}, each with message tags of its own",
                     shape_.stages(), (largest_tag + 1) / 2);
  actions_ = lowered.ranks[static_cast<std::size_t>(pipeline.rank())];
  for (int stage = pipeline.rank(); stage < shape_.stages(); stage += shape_.pp) {
    const auto slots = static_cast<std::size_t>(slots_[static_cast<std::size_t>(stage)]);
    StageRequests& requests = requests_.emplace_back();
    for (auto* side : {&requests.send_activation, &requests.receive_activation, &requests.send_gradient,
                       &requests.receive_gradient})
      side->resize(slots);
  }
}

void Executor::run() {
  for (const Action& action : actions_) {
    const int slot = slot_of(action.stage, action.microbatch);
    wait_for_inputs(action, slot);
    const ActionObserver::Time start = std::chrono::steady_clock::now();
    if (observer_) observer_->on_action_start(action, start);
    perform(action, slot);
    if (observer_) observer_->on_action_done(action, start, std::chrono::steady_clock::now());
    progress();
  }
  for (StageRequests& requests : requests_) {
    for (Request& request : requests.send_activation) request.wait();
    for (Request& request : requests.send_gradient) request.wait();
  }
}

/// Waits for the inputs of the action and for the last send from the buffer that the action writes.
void Executor::wait_for_inputs(const Action& action, int slot) {
  StageRequests& requests = requests_of(action.stage);
  const auto at = static_cast<std::size_t>(slot);
  switch (action.kind) {
    case ActionKind::forward:
      requests.receive_activation[at].wait();
      requests.send_activation[at].wait();
      break;
    case ActionKind::backward:
    case ActionKind::backward_input:
      requests.receive_gradient[at].wait();
      requests.send_gradient[at].wait();
      break;
    default:
      break;
  }
}

void Executor::perform(const Action& action, int slot) {
  const auto [kind, stage, microbatch] = action;
  StageRequests& requests = requests_of(stage);
  const auto at = static_cast<std::size_t>(slot);
  switch (kind) {
    case ActionKind::forward:
      forward(stage, microbatch, slot);
      break;
    case ActionKind::backward:
      work_.backward(stage, microbatch, slot);
      pass_gradient_upstream(stage, microbatch, slot);
      break;
    case ActionKind::backward_input:
      work_.backward_input(stage, microbatch, slot);
      pass_gradient_upstream(stage, microbatch, slot);
      break;
    case ActionKind::backward_weight:
      work_.backward_weight(stage, microbatch, slot);
      break;
    case ActionKind::send_activation:
      requests.send_activation[at] = pipeline_.start_send(
          work_.activation_out(stage, slot), shape_.rank_of(stage + 1), tag_of(kind, stage, microbatch));
      break;
    case ActionKind::receive_activation:
      requests.receive_activation[at] = pipeline_.start_receive(
          work_.activation_in(stage, slot), shape_.rank_of(stage - 1), tag_of(kind, stage - 1, microbatch));
      break;
    case ActionKind::send_gradient:
      requests.send_gradient[at] = pipeline_.start_send(
          work_.gradient_out(stage, slot), shape_.rank_of(stage - 1), tag_of(kind, stage, microbatch));
      break;
    case ActionKind::receive_gradient:
      requests.receive_gradient[at] = pipeline_.start_receive(
          work_.gradient_in(stage, slot), shape_.rank_of(stage + 1), tag_of(kind, stage + 1, microbatch));
      break;
  }
}

// Between two stages of one rank, the later stage copies its input from the previous stage's slot, and the
// gradient of this input to that slot. The slot holds the microbatch at both times, because the previous
// stage's forward has run and its backward has not.

void Executor::forward(int stage, int microbatch, int slot) {
  const int previous = stage - 1;
  if (previous >= 0 && shape_.rank_of(previous) == shape_.rank_of(stage))
    copy(stream_, work_.activation_out(previous, slot_of(previous, microbatch)),
         work_.activation_in(stage, slot));
  work_.forward(stage, microbatch, slot);
}

void Executor::pass_gradient_upstream(int stage, int microbatch, int slot) {
  const int previous = stage - 1;
  if (previous >= 0 && shape_.rank_of(previous) == shape_.rank_of(stage))
    copy(stream_, work_.gradient_out(stage, slot),
         work_.gradient_in(previous, slot_of(previous, microbatch)));
}

void Executor::progress() {
  for (StageRequests& requests : requests_)
    for (auto* side : {&requests.send_activation, &requests.receive_activation, &requests.send_gradient,
                       &requests.receive_gradient})
      for (Request& request : *side) request.test();
}

int Executor::slot_of(int stage, int microbatch) const {
  return microbatch % slots_[static_cast<std::size_t>(stage)];
}

/// Each direction, sending stage and microbatch has its own tag while there are enough tags. Otherwise
/// microbatches share tags; validate_program() has checked that messages of a channel are received in the
/// order of the sends. Activations have even tags (Traffic).
int Executor::tag_of(ActionKind kind, int sending_stage, int microbatch) const {
  const bool activation = kind == ActionKind::send_activation || kind == ActionKind::receive_activation;
  return 2 * (sending_stage * microbatch_tags_ + microbatch % microbatch_tags_) + (activation ? 0 : 1);
}

Executor::StageRequests& Executor::requests_of(int stage) {
  return requests_[static_cast<std::size_t>(stage / shape_.pp)];
}

}  // namespace foretoken

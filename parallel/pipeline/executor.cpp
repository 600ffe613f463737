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
    const InFlight at = in_flight(action.stage, action.microbatch);
    wait_for_inputs(action.kind, at);
    const ActionObserver::Time start = std::chrono::steady_clock::now();
    if (observer_) observer_->on_action_start(action, start);
    perform(action.kind, at);
    if (observer_) observer_->on_action_done(action, start, std::chrono::steady_clock::now());
    progress();
  }
  for (StageRequests& requests : requests_) {
    for (Request& request : requests.send_activation) request.wait();
    for (Request& request : requests.send_gradient) request.wait();
  }
}

/// Waits for the inputs of the action and for the last send from the buffer that the action writes.
void Executor::wait_for_inputs(ActionKind kind, const InFlight& at) {
  StageRequests& requests = requests_of(at.stage);
  const auto slot = static_cast<std::size_t>(at.slot);
  switch (kind) {
    case ActionKind::forward:
      requests.receive_activation[slot].wait();
      requests.send_activation[slot].wait();
      break;
    case ActionKind::backward:
    case ActionKind::backward_input:
      requests.receive_gradient[slot].wait();
      requests.send_gradient[slot].wait();
      break;
    default:
      break;
  }
}

void Executor::perform(ActionKind kind, const InFlight& at) {
  StageRequests& requests = requests_of(at.stage);
  const auto slot = static_cast<std::size_t>(at.slot);
  const int previous = at.stage - 1, next = at.stage + 1;
  switch (kind) {
    case ActionKind::forward:
      forward(at);
      break;
    case ActionKind::backward:
      work_.backward(at);
      pass_gradient_upstream(at);
      break;
    case ActionKind::backward_input:
      work_.backward_input(at);
      pass_gradient_upstream(at);
      break;
    case ActionKind::backward_weight:
      work_.backward_weight(at);
      break;
    case ActionKind::send_activation:
      requests.send_activation[slot] = pipeline_.start_send(work_.activation_out(at), shape_.rank_of(next),
                                                            tag_of({kind, at.stage, at.microbatch}));
      break;
    case ActionKind::receive_activation:
      requests.receive_activation[slot] =
          pipeline_.start_receive(work_.activation_in(at), shape_.rank_of(previous),
                                  tag_of({ActionKind::send_activation, previous, at.microbatch}));
      break;
    case ActionKind::send_gradient:
      requests.send_gradient[slot] = pipeline_.start_send(work_.gradient_out(at), shape_.rank_of(previous),
                                                          tag_of({kind, at.stage, at.microbatch}));
      break;
    case ActionKind::receive_gradient:
      requests.receive_gradient[slot] =
          pipeline_.start_receive(work_.gradient_in(at), shape_.rank_of(next),
                                  tag_of({ActionKind::send_gradient, next, at.microbatch}));
      break;
  }
}

// Between two stages of one rank, the later stage copies its input from the previous stage's slot, and the
// gradient of this input to that slot. The slot holds the microbatch at both times, because the previous
// stage's forward has run and its backward has not.

void Executor::forward(const InFlight& at) {
  const int previous = at.stage - 1;
  if (previous >= 0 && shape_.rank_of(previous) == shape_.rank_of(at.stage))
    copy(stream_, work_.activation_out(in_flight(previous, at.microbatch)), work_.activation_in(at));
  work_.forward(at);
}

void Executor::pass_gradient_upstream(const InFlight& at) {
  const int previous = at.stage - 1;
  if (previous >= 0 && shape_.rank_of(previous) == shape_.rank_of(at.stage))
    copy(stream_, work_.gradient_out(at), work_.gradient_in(in_flight(previous, at.microbatch)));
}

void Executor::progress() {
  for (StageRequests& requests : requests_)
    for (auto* side : {&requests.send_activation, &requests.receive_activation, &requests.send_gradient,
                       &requests.receive_gradient})
      for (Request& request : *side) request.test();
}

InFlight Executor::in_flight(int stage, int microbatch) const {
  return {
      .stage = stage, .microbatch = microbatch, .slot = microbatch % slots_[static_cast<std::size_t>(stage)]};
}

/// Each direction, sending stage and microbatch has its own tag while there are enough tags. Otherwise
/// microbatches share tags; validate_program() has checked that messages of a channel are received in the
/// order of the sends. Activations have even tags (Traffic).
int Executor::tag_of(const Action& send) const {
  return 2 * (send.stage * microbatch_tags_ + send.microbatch % microbatch_tags_) +
         (send.kind == ActionKind::send_activation ? 0 : 1);
}

Executor::StageRequests& Executor::requests_of(int stage) {
  return requests_[static_cast<std::size_t>(stage / shape_.pp)];
}

}  // namespace foretoken

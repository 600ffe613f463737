#pragma once
// Runs one rank's part of a lowered pipeline program.

#include <chrono>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/pipeline/program.h"
#include "parallel/pipeline/stage_work.h"
#include "parallel/pipeline/validate_program.h"
#include "runtime/stream.h"

namespace foretoken {

/// Is called for every action when it runs, or on a GPU when it is enqueued. It serves tracing, and work that
/// follows an action, such as the gradient reduction after a stage's last backward. `start` is taken after
/// the action's waits, so the time from one action's end to the next one's start is waiting.
class ActionObserver {
 public:
  using Time = std::chrono::steady_clock::time_point;

  virtual ~ActionObserver() = default;
  virtual void on_action_start(const Action&, Time /*start*/) {}
  virtual void on_action_done(const Action&, Time /*start*/, Time /*end*/) {}
};

/// Microbatch m of stage s occupies slot m mod slots[s]. The program determines when messages are posted. The
/// executor waits for an input before the compute action that reads it, and for a send before the compute
/// action that overwrites its buffer. After each action it progresses all pending messages. Between two
/// stages of this rank it copies the boundary tensors.
class Executor {
 public:
  /// `pipeline` is the group of the program's ranks, in pipeline order, and carries no other traffic during
  /// run(). The program must have passed validate_program(), which returned the footprint; work,
  /// communicator, stream and observer must outlive the executor. Throws DefectError if the group's size
  /// differs from the program's, and UsageError if there are more stages than message tags.
  Executor(const Program& lowered, const ProgramFootprint& footprint, StageWork& work, Communicator& pipeline,
           Stream& stream, ActionObserver* observer = nullptr);

  /// Runs one step: all actions of this rank. Returns when its sends are complete; on a GPU, when all work is
  /// enqueued. The executor itself allocates nothing. After an exception messages may be pending, and the
  /// pipeline's communicator is unusable.
  void run();

 private:
  // Pending messages of one stage, by slot.
  struct StageRequests {
    std::vector<Request> send_activation;
    std::vector<Request> receive_activation;
    std::vector<Request> send_gradient;
    std::vector<Request> receive_gradient;
  };

  void wait_for_inputs(ActionKind kind, const InFlight& at);
  void perform(ActionKind kind, const InFlight& at);
  void forward(const InFlight& at);
  void pass_gradient_upstream(const InFlight& at);
  void progress();

  InFlight in_flight(int stage, int microbatch) const;
  int tag_of(const Action& send) const;
  StageRequests& requests_of(int stage);

  PipelineShape shape_;
  std::vector<Action> actions_;
  std::vector<int> slots_;               // per stage of the model
  std::vector<StageRequests> requests_;  // per stage of this rank
  int microbatch_tags_;
  StageWork& work_;
  Communicator& pipeline_;
  Stream& stream_;
  ActionObserver* observer_;
};

}  // namespace foretoken

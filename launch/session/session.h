#pragma once
// One rank's objects for training and for evaluation: its process groups, its part of the model, and the
// pipeline programs that it executes.

#include <memory>
#include <vector>

#include "launch/config/layout.h"
#include "model/objective.h"
#include "model/stage/rank_model.h"
#include "parallel/comm/groups.h"
#include "parallel/pipeline/program.h"
#include "parallel/pipeline/validate_program.h"
#include "runtime/device.h"

namespace foretoken {

/// A pipeline program that is ready to run: lowered and validated, its memory use is known.
struct ReadyProgram {
  Program program;
  ProgramFootprint footprint;
};
/// Lowers and validates a program of compute actions.
ReadyProgram make_ready(const Program& compute);

/// The decisions about a session that are made before memory is allocated.
struct SessionPlan {
  Config config;
  Purpose purpose = Purpose::train;
  Device::Options device;
  ModelLayout layout;
  ReadyProgram training;  // empty for Purpose::evaluate
  ReadyProgram evaluation;

  const Grid& grid() const { return layout.grid; }
};

/// Chooses the rank's device: parallel.threads, or one thread per MpiWorld::cores(); run.device, with GPUs
/// assigned to the ranks of a machine in turn. Collective: all ranks choose the same kind. Throws a
/// UsageError if a GPU is requested and some rank sees none.
Device::Options resolve_device(const Config& config, MpiCommunicator& world);

/// Needs no ranks and no such device. Requires a cross-checked config and a resolved grid
/// (launch/config/config_validator.h).
SessionPlan plan_session(const Config& config, const Grid& grid, Purpose purpose,
                         const Device::Options& device);
/// The same for the device that resolve_device() chooses. For training, reads parallel.profile
/// (launch/session/profile_on_ranks.h). Collective.
SessionPlan plan_session(MpiCommunicator& world, const Config& config, const Grid& grid, Purpose purpose);

/// The dtype that layers compute in: train.precision, on that kind of device.
DType compute_dtype(const Config& config, DeviceKind device);

/// The part of the model that ranks of this pipeline rank compute.
RankModelOptions model_options(const SessionPlan& plan, int pp_rank);

class Session {
 public:
  /// Collective.
  Session(MpiCommunicator& world, SessionPlan plan);
  Session(MpiCommunicator& world, const Config& config, const Grid& grid, Purpose purpose)
      : Session(world, plan_session(world, config, grid, purpose)) {}

  const SessionPlan& plan() const { return plan_; }
  const Config& config() const { return plan_.config; }
  const Grid& grid() const { return groups_.grid; }
  Groups& groups() { return groups_; }
  Device& device() { return device_; }
  Stream& stream() { return device_.stream(); }
  RankModel& model() { return *model_; }
  const ModelLayout& layout() const { return plan_.layout; }
  Objective& objective() { return objective_; }
  const ReadyProgram& training() const { return plan_.training; }
  const ReadyProgram& evaluation() const { return plan_.evaluation; }
  bool is_root() { return groups_.world.rank() == 0; }

  /// Returns when all enqueued work has run. Throws a PeerError if a rank that this rank waits for is gone.
  void synchronize() { groups_.transport->synchronize(); }
  /// Waits for the last step and returns its RankModel::sums().
  std::vector<double> read_sums();
  /// Replaces counts[k] over this rank's microbatches by the count over the whole global batch. Collective
  /// over the data-parallel ranks of stages that compute losses; no effect on other stages, which do not need
  /// the counts.
  void sum_target_counts(std::span<std::int64_t> counts);

 private:
  SessionPlan plan_;
  Device device_;
  Groups groups_;
  Objective objective_;
  std::unique_ptr<RankModel> model_;
};

}  // namespace foretoken

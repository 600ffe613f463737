#pragma once
// What one rank computes with, for training and for evaluation: its groups, its part of the model, and the
// pipeline programs that drive it.

#include <memory>
#include <vector>

#include "launch/layout.h"
#include "model/objective.h"
#include "model/rank_model.h"
#include "parallel/groups.h"
#include "parallel/program.h"
#include "parallel/validate_program.h"
#include "runtime/device.h"

namespace foretoken {

/// A pipeline program that is ready to run: lowered, validated, its memory known.
struct ReadyProgram {
  Program program;
  ProgramFootprint footprint;
};

/// What the rank computes on: parallel.threads, or one for each of MpiWorld::cores(); run.device, GPUs dealt
/// to the ranks of a machine in turn. Collective: all ranks choose one kind. A UsageError where a GPU is
/// asked for and a rank sees none.
Device::Options resolve_device(const Config& config, MpiCommunicator& world);

/// What layers compute in: train.precision, on that kind of device.
DType compute_dtype(const Config& config, DeviceKind device);

class Session {
 public:
  /// Collective. The config is cross-checked and the grid resolved (launch/config_validator.h).
  Session(MpiCommunicator& world, const Config& config, const Grid& grid, Purpose purpose);

  const Config& config() const { return config_; }
  const Grid& grid() const { return groups_.grid; }
  Groups& groups() { return groups_; }
  Device& device() { return device_; }
  Stream& stream() { return device_.stream(); }
  RankModel& model() { return *model_; }
  const ModelLayout& layout() const { return layout_; }
  Objective& objective() { return objective_; }
  const ReadyProgram& training() const { return training_; }
  const ReadyProgram& evaluation() const { return evaluation_; }
  bool is_root() { return groups_.world.rank() == 0; }

  /// Returns when all that was enqueued has run. A PeerError where a rank that it waits for is gone.
  void synchronize() { groups_.transport->synchronize(); }
  /// RankModel::sums() of the last step, which it waits for.
  std::vector<double> read_sums();
  /// counts[k] over this rank's microbatches becomes that over the whole global batch. Collective over the
  /// data-parallel ranks of stages that take losses, which alone need it; others do nothing.
  void sum_target_counts(std::span<std::int64_t> counts);

 private:
  Config config_;
  Device device_;
  ModelLayout layout_;
  Groups groups_;
  Objective objective_;
  ReadyProgram training_;  // empty where the purpose is to evaluate
  ReadyProgram evaluation_;
  std::unique_ptr<RankModel> model_;
};

}  // namespace foretoken

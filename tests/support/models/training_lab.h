#pragma once
// Full training runs inside a test: a small dataset in a folder shared by all ranks, runs in any layout, and
// their losses and checkpoints.

#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_reader.h"
#include "launch/config/train_arguments.h"
#include "launch/training/training.h"
#include "parallel/comm/mpi_communicator.h"
#include "tests/support/temporary_folder.h"

namespace foretoken::testing {

/// Settings as for --set, for example a layout: {"parallel.pp=2", "parallel.schedule=gpipe"}.
using Sets = std::vector<std::string>;
Sets operator+(Sets a, const Sets& b);
/// Example: "pp=2 schedule=gpipe ".
std::string name_of(const Sets& sets);

class TrainingLab {
 public:
  /// Collective. Rank 0 creates the folder and tokenizes `documents` pseudo-random texts into it.
  explicit TrainingLab(MpiCommunicator& world, int documents = 40);

  /// Hidden size 16, 7 layers, 2 MTP modules, rows of 16 tokens, 8 rows per step, 50 steps; `sets` override
  /// these.
  Config config(const Sets& sets) const;
  /// Runs foretoken train on all ranks of `ranks`; returns its exit code. Collective over `ranks`.
  ExitCode train(MpiCommunicator& ranks, const Sets& sets, const TrainArguments& arguments,
                 const TrainingHooks& hooks = {}) const;
  /// Like train(), on rank 0 only, while the other ranks wait. Collective over the world.
  ExitCode train_serial(const Sets& sets, const TrainArguments& arguments) const;

  /// A path in the shared folder.
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  /// [step] the losses of a run: the objective, then one loss per depth.
  static std::vector<std::vector<double>> losses(const std::string& run);
  /// The console output of a run.
  static std::string log(const std::string& run);
  static Checkpoint checkpoint(const std::string& run, std::int64_t step);

 private:
  MpiCommunicator& world_;
  std::unique_ptr<TemporaryFolder> owned_;  // rank 0's
  std::string folder_;
};

/// The first relative difference above `relative` between the losses of two runs; empty if there is none.
std::string loss_mismatch(const std::string& run, const std::string& expected, double relative);

/// The first difference above the tolerances between the tensors of one kind of two checkpoints; 0, 0
/// compares bits.
std::string tensor_mismatch(const Checkpoint& actual, const Checkpoint& expected, const std::string& kind,
                            double relative, double absolute);

}  // namespace foretoken::testing

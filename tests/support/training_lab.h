#pragma once
// Whole training runs inside a test: a small dataset in a folder that all ranks share, runs in any layout,
// their losses and checkpoints.

#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint_reader.h"
#include "launch/train.h"
#include "launch/training.h"
#include "parallel/mpi_communicator.h"
#include "tests/support/temporary_folder.h"

namespace foretoken::testing {

/// A layout as settings: {"parallel.pp=2", "parallel.schedule=gpipe"}.
using Sets = std::vector<std::string>;
Sets operator+(Sets a, const Sets& b);
/// "pp=2 schedule=gpipe "
std::string name_of(const Sets& sets);

class TrainingLab {
 public:
  /// Collective. Rank 0 makes the folder and tokenizes `documents` pseudo-random texts into it.
  explicit TrainingLab(MpiCommunicator& world, int documents = 40);

  /// Hidden 16, 7 layers, 2 MTP modules, rows of 16 tokens, 8 rows a step, 50 steps; `sets` over it.
  Config config(const Sets& sets) const;
  /// Runs foretoken train on all ranks of `ranks`; returns its exit code. Collective over `ranks`.
  ExitCode train(MpiCommunicator& ranks, const Sets& sets, const TrainArguments& arguments,
                 const TrainingHooks& hooks = {}) const;
  /// The same on rank 0 alone, while the others wait. Collective over the world.
  ExitCode train_serial(const Sets& sets, const TrainArguments& arguments) const;

  /// A path in the folder that all ranks share.
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  /// [step] the losses of a run in the order of its steps: the objective, then one per depth.
  static std::vector<std::vector<double>> losses(const std::string& run);
  /// What its console showed.
  static std::string log(const std::string& run);
  static Checkpoint checkpoint(const std::string& run, std::int64_t step);

 private:
  MpiCommunicator& world_;
  std::unique_ptr<TemporaryFolder> owned_;  // rank 0's
  std::string folder_;
};

/// The first difference of two runs' losses beyond `relative`, empty where there is none.
std::string loss_mismatch(const std::string& run, const std::string& expected, double relative);

/// The first difference of two checkpoints' tensors of one kind beyond the tolerances (0, 0: bitwise).
std::string tensor_mismatch(const Checkpoint& actual, const Checkpoint& expected, const std::string& kind,
                            double relative, double absolute);

}  // namespace foretoken::testing

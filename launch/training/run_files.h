#pragma once
// The files that a rank writes while it trains: metrics, and checkpoints in the background.

#include <optional>

#include "io/checkpoint/checkpoint_writer.h"
#include "io/checkpoint/run_directory.h"
#include "io/report/metrics_outputs.h"
#include "launch/console/console.h"
#include "launch/console/stop_notice.h"
#include "launch/training/run_folder.h"
#include "parallel/comm/mpi_communicator.h"

namespace foretoken {

struct RunFiles {
  /// Opens the files in the folder's directory, the console's log too, and lets a stop request in the middle
  /// of a step write the staged checkpoint. `step` is the number of finished steps. The other arguments must
  /// outlive the object. Collective.
  RunFiles(MpiCommunicator& world, const Config& config, std::int64_t step, RunFolder& folder,
           Console& console, StopNotice& notice);
  ~RunFiles() { notice.close_run(); }
  RunFiles(const RunFiles&) = delete;
  RunFiles& operator=(const RunFiles&) = delete;

  RunFolder& folder;
  StopNotice& notice;
  RunDirectory directory;
  std::optional<MetricsOutputs> metrics;  // on rank 0
  CheckpointWriter writer;
};

}  // namespace foretoken

#include "launch/training/run_files.h"

#include <chrono>
#include <random>

#include <fmt/format.h>

#include "launch/session/agreement.h"

namespace foretoken {

namespace {

std::string random_word() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

}  // namespace

RunFiles::RunFiles(MpiCommunicator& world, const Config& config, std::int64_t step, RunFolder& run_folder,
                   Console& console, StopNotice& stop_notice)
    : folder(run_folder),
      notice(stop_notice),
      directory(run_folder.directory()),
      writer(directory.checkpoints_path(), world.rank(), world.size(),
             {.keep = static_cast<int>(config.checkpoint.keep),
              .stall_timeout = std::chrono::seconds(config.checkpoint.timeout_seconds),
              .parent = folder.parent(),
              .lineage = folder.lineage(),
              .before_publication =  // on the writer's thread: this job must still hold the run, and metrics
                                     // up to the checkpoint must be on disk
              [this] {
                folder.require_held();
                if (metrics) metrics->sync();
              },
              .log = [&console](const std::string& text) { console.line(text); },
              .session = broadcast_text(world, random_word())}) {
  if (world.rank() == 0) {
    console.open_log(directory.log_path());
    const auto warn = [&console](const std::string& text) {
      console.warn(text + "; training continues, and this is reported once");
    };
    const std::int64_t next = step == 0 ? 0 : step + 1;  // the first evaluation is at step 0
    metrics.emplace(MetricsOutputs::Options{.run = directory.path(),
                                            .branch = folder.lineage().branch,
                                            .tensorboard = config.metrics.tensorboard,
                                            .prometheus = config.metrics.prometheus,
                                            .from = folder.first_returned().value_or(next)},
                    warn);
  }
  notice.while_in_step([this] { writer.commit_staged(); });
  notice.open_run(world, directory.path());
}

}  // namespace foretoken

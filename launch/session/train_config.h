#pragma once
// The settings of a training run. They are applied in this order: the settings of the run that is resumed or
// started from, the file, the flags.

#include <string>

#include "launch/config/config.h"
#include "launch/config/train_arguments.h"

namespace foretoken {

/// The settings in a run's config.toml or, if that is missing, empty, not TOML or damaged, in its newest
/// checkpoint's manifest.
struct RunSettings {
  Config config;
  std::string error;   // why config.toml was not read; empty if it was
  std::string source;  // the manifest that was read instead of config.toml
};
/// `path` is the run or one of its checkpoints. Throws a UsageError if config.toml is TOML with unknown
/// settings, a DataError if neither file can be read.
RunSettings settings_of_run(const std::string& path);

/// Whether the run at this path has a complete checkpoint in its current lineage.
bool holds_checkpoint(const std::string& run);

/// The settings of a run that resumes `resume` (a run or a checkpoint; empty: a new run). If --auto-resume
/// resumes, the settings are the run's and --set; CONFIG and --from apply only when the run is new.
Config resolve_config(const TrainArguments& arguments, const std::string& resume);

/// The run or checkpoint that `arguments` will most likely resume. Only most likely, because the job does not
/// hold the run yet.
std::string likely_resume(const TrainArguments& arguments);

/// A warning that names the keys if --auto-resume resumes a run whose settings differ from CONFIG; empty if
/// they agree.
std::string config_difference(const TrainArguments& arguments, const Config& resolved);

}  // namespace foretoken

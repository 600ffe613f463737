#pragma once
// The settings of a training run: those of the run that is resumed or started from first, then the file, then
// the flags.

#include <string>

#include "launch/config.h"
#include "launch/train.h"

namespace foretoken {

/// What a run's config.toml says or, where it is missing, empty, no TOML or damaged, its newest checkpoint's
/// manifest.
struct RunSettings {
  Config config;
  std::string fault;   // of config.toml, empty where it was read
  std::string source;  // the manifest that was read then
};
/// `path` is the run or one of its checkpoints. A UsageError for a config.toml that is TOML but holds
/// settings that do not exist; a DataError where nothing can be read.
RunSettings settings_of_run(const std::string& path);

/// Has the run at this path a complete checkpoint on its current line?
bool holds_checkpoint(const std::string& run);

/// The settings of a run that resumes `resume` (a run or a checkpoint; empty: starts afresh). A resume that
/// --auto-resume decided on takes the run's settings and --set; CONFIG and --from are for its start.
Config resolve_config(const TrainArguments& arguments, const std::string& resume);

/// Before the job holds the run: what `arguments` will most likely resume.
std::string likely_resume(const TrainArguments& arguments);

/// Where --auto-resume resumes a run whose settings are not those of the CONFIG that was given: a warning
/// that names the keys. Empty where they agree.
std::string config_difference(const TrainArguments& arguments, const Config& resolved);

}  // namespace foretoken

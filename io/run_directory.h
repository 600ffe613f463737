#pragma once
// The folder of one run:
//   config.toml      the resolved configuration under a line with its digest (io/sealed_text.h)
//   metrics.jsonl    one object a step (io/metrics.h)
//   run.lock         of the job that trains in it (io/run_lock.h)
//   log.txt          what the console showed
//   checkpoints/     step_00001000/ ... and abandoned branches (io/lineage.h)

#include <string>

namespace foretoken {

class RunDirectory {
 public:
  /// A new run "<parent>/<name>-20261122T003356Z" holding config.toml and checkpoints/. It appears complete
  /// or not at all and is never another run's: where the name is taken "-2", "-3", ... follows. A DataError
  /// where the folder cannot be made.
  static RunDirectory create(const std::string& parent, const std::string& name,
                             const std::string& config_toml);
  /// The same at exactly this path. A UsageError where something is there already.
  static RunDirectory create_at(const std::string& path, const std::string& config_toml);
  /// A UsageError where something is at this path that is neither an empty folder nor a run's.
  static void require_usable(const std::string& path);
  /// A run in a folder that exists, require_usable() has passed and this job has locked: makes what a run
  /// lacks and replaces config.toml. Nothing else in it is touched.
  static RunDirectory create_in(const std::string& path, const std::string& config_toml);
  /// The run that a person means by RUN or by one of its checkpoints, RUN/checkpoints/step_N or an abandoned
  /// one. config.toml may be missing where there is a checkpoint, whose manifest holds the configuration. A
  /// DataError where the path does not exist or is neither.
  static RunDirectory open(const std::string& run_or_checkpoint);

  const std::string& path() const { return path_; }
  std::string config_path() const { return path_ + "/config.toml"; }
  std::string metrics_path() const { return path_ + "/metrics.jsonl"; }
  std::string log_path() const { return path_ + "/log.txt"; }
  std::string checkpoints_path() const { return path_ + "/checkpoints"; }

  /// Replaces config.toml as a whole, for a run that was resumed with other settings.
  void write_config(const std::string& config_toml) const;

 private:
  explicit RunDirectory(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

}  // namespace foretoken

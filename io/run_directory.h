#pragma once
// The folder of one run:
//   config.toml      the resolved configuration
//   metrics.jsonl    one object a step (io/metrics.h)
//   log.txt          what the console showed
//   checkpoints/     step_00001000/ ...

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
  /// The same, but a run that is there without a complete checkpoint is started again in place, with this
  /// configuration.
  static RunDirectory create_or_restart(const std::string& path, const std::string& config_toml);
  /// Whether there is a run at this path with a complete checkpoint.
  static bool has_checkpoint(const std::string& path);
  /// The run that a person means by RUN or by one of its checkpoints, RUN/checkpoints/step_N. A DataError
  /// where the path does not exist or is neither.
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

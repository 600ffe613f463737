#pragma once
// The folder of one run:
//
//   config.toml      the resolved configuration, after a line with its digest (io/files/sealed_text.h)
//   metrics.jsonl    one object per step (io/report/metrics.h)
//   machine.json     hosts, devices and versions of the newest launch (launch/doctor/machine_record.h)
//   profile.json     the device profile by which layers were assigned, if any (launch/training/run_profile.h)
//   run.lock         lock of the job that trains in the folder (io/checkpoint/run_lock.h)
//   log.txt          the console's output
//   tensorboard/     event files, if the run writes them (io/report/tensorboard.h)
//   checkpoints/     step_00001000/ ... and abandoned branches (io/checkpoint/lineage.h)

#include <string>

namespace foretoken {

class RunDirectory {
 public:
  /// Creates a run "<parent>/<name>-20261122T003356Z" with config.toml and checkpoints/. It appears complete
  /// or not at all, and never in another run's folder: if the name exists, "-2", "-3" and so on is appended.
  /// Throws a DataError if the folder cannot be created.
  static RunDirectory create(const std::string& parent, const std::string& name,
                             const std::string& config_toml);
  /// The same at exactly this path. Throws a UsageError if the path exists.
  static RunDirectory create_at(const std::string& path, const std::string& config_toml);
  /// Throws a UsageError if the path exists and is neither an empty folder nor a run's.
  static void require_usable(const std::string& path);
  /// Creates a run in an existing folder that has passed require_usable() and is locked by this job: adds
  /// what is missing and replaces config.toml. Other files are not touched.
  static RunDirectory create_in(const std::string& path, const std::string& config_toml);
  /// Opens the run that RUN, or one of its checkpoints (RUN/checkpoints/step_N or an abandoned one), refers
  /// to. config.toml may be missing if there is a checkpoint, whose manifest has the configuration. Throws a
  /// DataError if the path does not exist or is neither.
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

#include "io/checkpoint/run_directory.h"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <stdlib.h>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "io/checkpoint/lineage.h"
#include "io/files/durable_file.h"
#include "io/files/sealed_text.h"
#include "runtime/error.h"

namespace foretoken {
namespace {

namespace fs = std::filesystem;

constexpr int names_tried = 1000;

/// A complete run folder in a temporary folder, until it is renamed to its final path.
class Staging {
 public:
  Staging(const fs::path& parent, const std::string& config_toml) {
    std::error_code error;
    fs::create_directories(parent, error);
    if (error) throw DataError("run directory: {}: cannot be created: {}", parent.string(), error.message());
    temporary_ = (parent / ".run-XXXXXX").string();
    if (mkdtemp(temporary_.data()) == nullptr)
      throw DataError("run directory: {}: cannot create a folder in it: {}", parent.string(),
                      std::strerror(errno));
    try {
      fs::create_directories(run() / "checkpoints");
      write_durably(run() / "config.toml", sealed(config_toml));
    } catch (const fs::filesystem_error& failure) {
      remove();
      throw DataError("run directory: {}", failure.what());
    } catch (const DataError&) {
      remove();
      throw;
    }
  }
  ~Staging() { remove(); }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// Returns false if the name exists. rename() never replaces a non-empty folder, and a run's folder is
  /// never empty.
  bool publish(const fs::path& path) const {
    if (::rename(run().c_str(), path.c_str()) == 0) {
      sync_to_disk(folder_of(path));
      return true;
    }
    if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) return false;
    throw DataError("run directory: {}: cannot be created: {}", path.string(), std::strerror(errno));
  }

 private:
  fs::path run() const { return fs::path(temporary_) / "run"; }
  void remove() {
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }

  std::string temporary_;
};

bool is_run(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path / "checkpoints", ignored)) return false;
  return fs::is_regular_file(path / "config.toml", ignored) ||
         !list_checkpoints(path / "checkpoints").empty();
}

std::string without_trailing_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

RunDirectory RunDirectory::create(const std::string& parent, const std::string& name,
                                  const std::string& config_toml) {
  const Staging staging(parent, config_toml);
  const std::string stem = fmt::format("{}-{:%Y%m%dT%H%M%SZ}", name, fmt::gmtime(std::time(nullptr)));
  for (int number = 1; number <= names_tried; ++number) {
    const fs::path path = fs::path(parent) / (number == 1 ? stem : fmt::format("{}-{}", stem, number));
    if (staging.publish(path)) return RunDirectory(path.string());
  }
  throw DataError("run directory: {}/{}: this name and the next {} exist already", parent, stem,
                  names_tried - 1);
}

RunDirectory RunDirectory::create_at(const std::string& path, const std::string& config_toml) {
  const std::string target = without_trailing_slash(path);
  const fs::path parent = fs::path(target).parent_path();
  const Staging staging(parent.empty() ? "." : parent, config_toml);
  if (staging.publish(target)) return RunDirectory(target);
  throw UsageError("run directory: {} exists already; --resume {} continues a run", target, target);
}

void RunDirectory::require_usable(const std::string& path) {
  std::error_code error;
  const fs::path folder = without_trailing_slash(path);
  if (!fs::exists(folder, error) || is_run(folder)) return;
  if (!fs::is_directory(folder, error))
    throw UsageError("run directory: {}: is a file, expected a folder", path);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    // A run that is killed during start-up leaves these files.
    if (name != "checkpoints" && !name.starts_with("run.lock") && !name.starts_with('.'))
      throw UsageError("run directory: {}: contains {} and is not a run (config.toml and checkpoints/)", path,
                       name);
  }
}

RunDirectory RunDirectory::create_in(const std::string& path, const std::string& config_toml) {
  RunDirectory run(without_trailing_slash(path));
  std::error_code error;
  fs::create_directories(run.checkpoints_path(), error);
  if (error)
    throw DataError("run directory: {}: cannot be created: {}", run.checkpoints_path(), error.message());
  run.write_config(config_toml);
  return run;
}

RunDirectory RunDirectory::open(const std::string& run_or_checkpoint) {
  const std::string path = without_trailing_slash(run_or_checkpoint);
  std::error_code error;
  if (!fs::exists(path, error)) throw DataError("run directory: {}: there is no such path", path);
  if (is_run(path)) return RunDirectory(path);
  for (fs::path up = fs::absolute(path).lexically_normal(); up.has_relative_path(); up = up.parent_path())
    if (up.filename() == "checkpoints" && is_run(up.parent_path()))
      return RunDirectory(up.parent_path().string());
  throw DataError("run directory: {}: neither a run (config.toml and checkpoints/) nor a checkpoint of one",
                  path);
}

void RunDirectory::write_config(const std::string& config_toml) const {
  write_durably(config_path(), sealed(config_toml));
}

}  // namespace foretoken

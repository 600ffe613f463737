#include "launch/session/train_config.h"

#include <filesystem>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "io/checkpoint/lineage.h"
#include "io/checkpoint/run_directory.h"
#include "io/files/sealed_text.h"
#include "launch/config/config_loader.h"
#include "launch/config/config_toml.h"
#include "launch/config/config_validator.h"
#include "launch/config/options.h"
#include "launch/session/resume.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;

/// Reads config.toml into `text`. Says why the file is not what a run wrote; empty if it is.
std::string config_error(const std::string& path, std::string& text) {
  std::error_code error;
  if (!fs::exists(path, error)) return fmt::format("{}: is missing", path);
  try {
    text = read_toml_file(path);
    if (text.find_first_not_of(std::string_view(" \t\r\n\0", 5)) == std::string::npos)
      return fmt::format("{}: is empty", path);
    if (const std::string message = seal_error(text); !message.empty())
      return fmt::format("{}: {}", path, message);
    parse_toml(text, path);
  } catch (const UsageError& unreadable) {
    return unreadable.what();
  }
  return {};
}

}  // namespace

RunSettings settings_of_run(const std::string& path) {
  const RunDirectory run = RunDirectory::open(path);
  RunSettings settings;
  std::string text;
  settings.error = config_error(run.config_path(), text);
  if (settings.error.empty()) {
    apply_toml(settings.config, text, run.config_path());
    return settings;
  }
  const Checkpoint checkpoint = newest_readable(path);
  settings.config = settings_of(checkpoint);
  settings.source = (checkpoint.directory() / manifest_name).string();
  return settings;
}

bool holds_checkpoint(const std::string& run) {
  std::error_code error;
  const fs::path checkpoints = fs::path(run) / "checkpoints";
  return fs::is_directory(checkpoints, error) && !list_checkpoints(checkpoints).empty();
}

Config resolve_config(const TrainArguments& arguments, const std::string& resume) {
  Config config;
  if (!resume.empty())
    config = settings_of_run(resume).config;
  else if (!arguments.from.empty())
    config = settings_of(newest_readable(arguments.from));
  const Config before = config;
  const bool decided = arguments.auto_resume && !resume.empty();
  if (!arguments.config_path.empty() && !decided) apply_toml_file(config, arguments.config_path);
  apply_sets(config, arguments.sets);
  config.run.directory = absolute_path(config.run.directory);
  if (arguments.auto_layout) config.parallel.elastic = true;
  if (!arguments.from.empty() && resume.empty()) config.train.init_from = absolute_path(arguments.from);
  if (!resume.empty()) validate_resumed(before, config);
  return config;
}

std::string likely_resume(const TrainArguments& arguments) {
  if (arguments.auto_resume && holds_checkpoint(arguments.run_directory)) return arguments.run_directory;
  return arguments.resume;
}

std::string config_difference(const TrainArguments& arguments, const Config& resolved) {
  if (!arguments.auto_resume || arguments.config_path.empty()) return {};
  Config given;
  try {
    apply_toml_file(given, arguments.config_path);
    const auto in_file = given.origins;
    apply_sets(given, arguments.sets);
    std::vector<std::string> differing;
    for (const Option& option : options())
      if (in_file.contains(option.name()) && option.get(given) != option.get(resolved))
        differing.push_back(fmt::format("{} ({} in the file, {} in the run)", option.name(),
                                        to_toml(option.get(given)), to_toml(option.get(resolved))));
    if (differing.empty()) return {};
    return fmt::format("the run keeps its own settings, which differ from {}: {}; use --set to change them",
                       arguments.config_path, fmt::join(differing, ", "));
  } catch (const UsageError& error) {
    return fmt::format("the run keeps its own settings; {}", error.what());
  }
}

}  // namespace foretoken

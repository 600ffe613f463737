#include "launch/study/point_runner.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <unistd.h>

#include <fmt/format.h>

#include "io/checkpoint/lineage.h"
#include "io/files/durable_file.h"
#include "io/files/printable.h"
#include "io/files/sealed_text.h"
#include "io/files/text_file.h"
#include "io/report/metrics.h"
#include "launch/config/config_loader.h"
#include "launch/config/options.h"
#include "launch/session/train_config.h"
#include "launch/study/point_command.h"
#include "launch/study/study_report.h"
#include "launch/supervisor/launcher.h"
#include "launch/supervisor/subprocess.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;

/// Throws a UsageError if the point has run before with other settings: its row would mix both.
void require_same_settings(const SweepPoint& point, const std::string& config_path) {
  if (!fs::exists(config_path)) return;
  if (const std::string message = seal_error(read_text_file(config_path, most_config_bytes));
      !message.empty())
    throw DataError("study: {}: {}", config_path, message);
  Config before;
  apply_toml_file(before, config_path);
  for (const Option& option : options())
    if (option.get(before) != option.get(point.config))
      throw UsageError("study: point \"{}\" has run with {} {}, found {}: rename the point, or remove {}",
                       point.name, option.name(), to_toml(option.get(before)),
                       to_toml(option.get(point.config)), fs::path(config_path).parent_path().string());
}

/// Shows the run's latest output line in the terminal's last line; no effect if the output is not a terminal.
class LatestLine {
 public:
  explicit LatestLine(std::string log) : log_(std::move(log)) {}
  ~LatestLine() { show(""); }

  void update() {
    if (!terminal_ || ++calls_ % 5 != 0) return;
    std::ifstream file(log_);
    file.seekg(0, std::ios::end);
    file.seekg(-std::min<std::streamoff>(file.tellg(), 400), std::ios::cur);
    std::string latest;
    for (std::string line; std::getline(file, line);)
      if (line.starts_with("step ")) latest = line;
    show(latest);
  }

 private:
  void show(const std::string& text) const {
    if (!terminal_) return;
    fmt::print("\r\x1b[K{}", printable(text.substr(0, 100)));
    std::fflush(stdout);
  }

  std::string log_;
  bool terminal_ = isatty(STDOUT_FILENO) != 0;
  int calls_ = 0;
};

void remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) throw DataError("study: {}: cannot be removed: {}", folder.string(), error.message());
}

}  // namespace

const std::string& made(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw DataError("study: {}: cannot be created: {}", folder, error.message());
  return folder;
}

std::string reason_in(const std::string& output_file) {
  std::ifstream file(output_file);
  std::string own, slurm, last;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("[rank ") || line.starts_with("foretoken: ")) own = line;
    if (line.starts_with("slurm")) slurm = line;
    if (line.find_first_not_of("- ") != std::string::npos) last = line;  // mpirun frames its messages
  }
  return !own.empty() ? own : !slurm.empty() ? slurm : last;
}

void PointRunner::require_unchanged(const SweepPoint& point) {
  const std::string folder = folder_of(sweep_, point);
  require_same_settings(point, folder + "/config.toml");
  data_.require_same(folder + "/data.json", point.name, point.config);
}

void PointRunner::prepare(const SweepPoint& point) {
  const std::string folder = made(folder_of(sweep_, point));
  write_durably(folder + "/config.toml", sealed(to_toml(point.config)));
  data_.keep(folder + "/data.json", point.config);
}

void PointRunner::run(const SweepPoint& point, const std::string& label) {
  const std::string folder = folder_of(sweep_, point), output = folder + "/output.txt";
  const fs::path run = folder + "/run";
  if (sweep_.scaling) remove_folder(run);
  const bool resumed = holds_checkpoint(run.string());
  if (!resumed) prepare(point);
  console_.line(
      fmt::format("{}: {} on {}", label, resumed ? "resumes" : "starts", counted(point.ranks, "rank")));
  set_launcher_defaults(point.ranks, false);
  const std::string command = point_command(sweep_, point);
  const auto start = std::chrono::steady_clock::now();
  int code = 0;
  {
    LatestLine latest((run / "log.txt").string());
    code = run_command(command, {.output_file = output,
                                 .meanwhile = [&] { latest.update(); },
                                 .log = [&](const std::string& text) { console_.line(text); }})
               .code;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double before = resumed ? outcome_of(folder).seconds : 0;
  const bool failed = code != 0 && code != static_cast<int>(ExitCode::resumable);
  write_outcome(folder, {.exit_code = code,
                         .seconds = before + seconds,
                         .reason = failed ? reason_in(output) : "",
                         .command = command});
  if (sweep_.scaling && code == 0) remove_folder(run / "checkpoints");
  tell(point, label, code, seconds);
}

void PointRunner::tell(const SweepPoint& point, const std::string& label, int code, double seconds) {
  const std::string time = duration_in_words(seconds);
  if (code == 0)
    return console_.line(fmt::format("{}: done in {}, {}", label, time, summary(result_of(sweep_, point))));
  if (code == static_cast<int>(ExitCode::resumable))
    return console_.line(fmt::format("{}: stopped after {}{}", label, time,
                                     sweep_.scaling ? "; it will start again" : " with a checkpoint"));
  const std::string folder = folder_of(sweep_, point);
  console_.warn(fmt::format("{}: failed with code {} after {}: {}; see {}/output.txt", label, code, time,
                            outcome_of(folder).reason, folder));
}

}  // namespace foretoken

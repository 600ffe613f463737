#include "launch/study/study.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <unistd.h>

#include <fmt/format.h>

#include "io/checkpoint/lineage.h"
#include "io/checkpoint/run_lock.h"
#include "io/files/durable_file.h"
#include "io/files/printable.h"
#include "io/files/sealed_text.h"
#include "io/files/text_file.h"
#include "io/report/metrics.h"
#include "launch/config/config_loader.h"
#include "launch/config/options.h"
#include "launch/console/console.h"
#include "launch/console/stop_signal.h"
#include "launch/session/train_config.h"
#include "launch/study/point_command.h"
#include "launch/study/study_data.h"
#include "launch/study/study_plan.h"
#include "launch/study/study_report.h"
#include "launch/study/sweep.h"
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

/// The line of a failed run that gives the reason: the program's error message if there is one, otherwise the
/// last line.
std::string reason_in(const std::string& output_file) {
  std::ifstream file(output_file);
  std::string reason, last;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("[rank ") || line.starts_with("foretoken: ")) reason = line;
    if (!line.empty()) last = line;
  }
  return reason.empty() ? last : reason;
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

class Study {
 public:
  Study(Sweep sweep, std::string sweep_file)
      : sweep_(std::move(sweep)),
        sweep_file_(std::move(sweep_file)),
        lock_(made(sweep_.directory), {.log = [](const std::string& text) { fmt::print("{}\n", text); }}),
        console_(true) {
    for (const SweepPoint& point : sweep_.points) {
      if (!point.is_run()) continue;
      require_same_settings(point, folder(point) + "/config.toml");
      data_.require_same(folder(point) + "/data.json", point.name, point.config);
    }
    console_.open_log(sweep_.directory + "/log.txt");
  }

  int run() {
    catch_stop_signals();
    console_.line(fmt::format(
        "study      {}: {} in {}, by {}", sweep_.title,
        counted(std::count_if(sweep_.points.begin(), sweep_.points.end(), std::mem_fn(&SweepPoint::is_run)),
                "point"),
        sweep_.directory, sweep_.launcher));
    const auto shown = std::count_if(sweep_.points.begin(), sweep_.points.end(),
                                     [](const SweepPoint& point) { return !point.projected; });
    for (std::size_t i = 0; i < sweep_.points.size() && stop_signal() == 0; ++i) {
      const SweepPoint& point = sweep_.points[i];
      if (point.projected) continue;
      label_ = fmt::format("point {}/{}  {}", i + 1, shown, point.name);
      if (!point.illegal.empty())
        console_.line(fmt::format("{}: not run: {}", label_, point.illegal));
      else if (outcome_of(folder(point)).exit_code == 0)
        console_.line(label_ + ": already done");
      else
        run_point(point);
    }
    write_report(sweep_, sweep_file_);
    warn_of_unreadable_metrics();
    const int code = finish();
    if (code == 0) console_.require_written();
    return code;
  }

 private:
  static const std::string& made(const std::string& directory) {
    std::error_code error;
    fs::create_directories(directory, error);
    if (error) throw DataError("study: {}: cannot be created: {}", directory, error.message());
    return directory;
  }

  std::string folder(const SweepPoint& point) const { return sweep_.directory + "/" + point.name; }

  void run_point(const SweepPoint& point) {
    const fs::path run = folder(point) + "/run";
    const std::string output = folder(point) + "/output.txt";
    if (sweep_.scaling) remove(run);
    const bool resumed = holds_checkpoint(run.string());
    if (!resumed) {
      made(folder(point));
      write_durably(folder(point) + "/config.toml", sealed(to_toml(point.config)));
      data_.keep(folder(point) + "/data.json", point.config);
    }
    console_.line(
        fmt::format("{}: {} on {}", label_, resumed ? "resumes" : "starts", counted(point.ranks, "rank")));
    const auto start = std::chrono::steady_clock::now();
    int code = 0;
    {
      LatestLine latest((run / "log.txt").string());
      code = run_command(point_command(sweep_, point),
                         {.output_file = output,
                          .meanwhile = [&] { latest.update(); },
                          .log = [&](const std::string& text) { console_.line(text); }})
                 .code;
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double before = resumed ? outcome_of(folder(point)).seconds : 0;
    const bool failed = code != 0 && code != static_cast<int>(ExitCode::resumable);
    write_outcome(
        folder(point),
        {.exit_code = code, .seconds = before + seconds, .reason = failed ? reason_in(output) : ""});
    if (sweep_.scaling && code == 0) remove(run / "checkpoints");
    tell(point, code, seconds);
    write_report(sweep_, sweep_file_);
  }

  /// A scaling study keeps the metrics of finished runs only. A measurement in two parts is none, so an
  /// unfinished run starts again; and nobody continues from the weights of a few measured steps.
  static void remove(const fs::path& folder) {
    std::error_code error;
    fs::remove_all(folder, error);
    if (error) throw DataError("study: {}: cannot be removed: {}", folder.string(), error.message());
  }

  void tell(const SweepPoint& point, int code, double seconds) {
    const std::string time = duration_in_words(seconds);
    if (code == 0)
      return console_.line(
          fmt::format("{}: done in {}, {}", label_, time, summary(result_of(sweep_, point))));
    if (code == static_cast<int>(ExitCode::resumable))
      return console_.line(fmt::format("{}: stopped after {} with a checkpoint", label_, time));
    console_.warn(fmt::format("{}: failed with code {} after {}: {}; see {}", label_, code, time,
                              outcome_of(folder(point)).reason, folder(point) + "/output.txt"));
  }

  void warn_of_unreadable_metrics() {
    for (const SweepPoint& point : sweep_.points) {
      const MetricsHistory history = result_of(sweep_, point).metrics;
      if (history.unreadable_lines > 0)
        console_.warn(fmt::format("point \"{}\": unreadable lines of metrics are left out: {}; the first: {}",
                                  point.name, history.unreadable_lines, history.first_unreadable));
      if (history.torn)
        console_.warn(
            fmt::format("point \"{}\": metrics.jsonl ends inside a line, which is left out", point.name));
    }
  }

  int finish() {
    int done = 0, points = 0, first_code = 0, illegal = 0;
    for (const SweepPoint& point : sweep_.points) {
      illegal += !point.illegal.empty() && !point.projected;
      if (!point.is_run()) continue;
      ++points;
      const std::optional<int> code = outcome_of(folder(point)).exit_code;
      done += code == 0;
      if (first_code == 0 && code) first_code = *code;
    }
    console_.line(fmt::format("{:<11}{} of {} points{}; {}/study.html and {}",
                              done == points ? "done" : "ended", done, points,
                              illegal > 0 ? fmt::format(", {} illegal", illegal) : "", sweep_.directory,
                              sweep_.scaling ? "scaling.csv" : "study.csv"));
    if (done < points && stop_signal() != 0) {
      console_.line("stopped    the same command resumes it");
      return static_cast<int>(ExitCode::resumable);
    }
    return first_code;
  }

  Sweep sweep_;
  std::string sweep_file_;
  RunLock lock_;  // keeps other studies out of the folder
  StudyData data_;
  Console console_;
  std::string label_;  // label of the point that is running
};

}  // namespace

int study(const StudyArguments& arguments) {
  Sweep sweep = read_sweep(arguments.sweep, arguments.sets, best_layout);
  if (sweep.scaling) plan_points(sweep);
  if (!arguments.launcher.empty()) sweep.launcher = arguments.launcher;
  if (sweep.launcher.find("{ranks}") == std::string::npos)
    throw UsageError("study: launcher \"{}\" does not contain {{ranks}}", sweep.launcher);
  return Study(std::move(sweep), arguments.sweep).run();
}

}  // namespace foretoken

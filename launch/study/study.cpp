#include "launch/study/study.h"

#include <algorithm>
#include <functional>

#include <fmt/format.h>

#include "io/checkpoint/run_lock.h"
#include "launch/console/console.h"
#include "launch/console/stop_signal.h"
#include "launch/study/point_runner.h"
#include "launch/study/slurm_array.h"
#include "launch/study/study_plan.h"
#include "launch/study/study_report.h"
#include "launch/study/sweep.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

RunLockOptions lock_options() {
  return {.log = [](const std::string& text) { fmt::print("{}\n", text); }};
}

class Study {
 public:
  Study(const Sweep& sweep, const StudyArguments& arguments)
      : sweep_(sweep),
        arguments_(arguments),
        lock_(made(sweep.directory), lock_options()),
        console_(true),
        runner_(sweep_, console_) {
    for (const SweepPoint& point : sweep_.points)
      if (point.is_run()) runner_.require_unchanged(point);
    console_.open_log(sweep_.directory + "/log.txt");
  }

  int run() {
    catch_stop_signals();
    begin(sweep_.launcher);
    for (const SweepPoint& point : sweep_.points)
      if (const auto job = job_of(folder_of(sweep_, point));
          job && !outcome_of(folder_of(sweep_, point)).exit_code)
        throw UsageError(
            "study: point \"{}\" was submitted to Slurm as job {}: collect it with --slurm; to run it here, "
            "cancel the job and remove {}/job.json",
            point.name, job->job, folder_of(sweep_, point));
    for (std::size_t i = 0; i < sweep_.points.size() && stop_signal() == 0; ++i) {
      const SweepPoint& point = sweep_.points[i];
      if (point.projected) continue;
      const std::string label = fmt::format("point {}/{}  {}", i + 1, shown(), point.name);
      if (!point.illegal.empty()) {
        console_.line(fmt::format("{}: not run: {}", label, point.illegal));
      } else if (outcome_of(folder_of(sweep_, point)).exit_code == 0) {
        console_.line(label + ": already done");
      } else {
        runner_.run(point, label);
        write_report(sweep_, arguments_.sweep);
      }
    }
    return finish(write_report(sweep_, arguments_.sweep));
  }

  /// Submits what has not been submitted, and reports what has finished.
  int run_in_slurm() {
    begin("Slurm");
    update_jobs(sweep_);
    std::vector<const SweepPoint*> points;
    for (const SweepPoint& point : sweep_.points) {
      if (!point.is_run() || !is_to_be_submitted(folder_of(sweep_, point))) continue;
      runner_.prepare(point);
      points.push_back(&point);
    }
    submit(sweep_, {.sweep_file = arguments_.sweep, .sets = arguments_.sets}, points,
           [&](const std::string& line) { console_.line(line); });
    const std::vector<PointResult> results = write_report(sweep_, arguments_.sweep);
    for (const PointResult& result : results)
      if (!result.point->projected && result.status() != "done")
        console_.line(fmt::format("{:<10} {}{}", result.status(), result.point->name,
                                  result.reason().empty() ? "" : ": " + result.reason()));
    return finish(results);
  }

 private:
  bool is_to_be_submitted(const std::string& folder) const {
    const std::optional<int> code = outcome_of(folder).exit_code;
    const std::optional<PointJob> job = job_of(folder);
    if (code == 0) return false;
    if (!job) return true;
    return arguments_.resubmit && (code || !job->is_queued());
  }

  std::ptrdiff_t shown() const {
    return std::count_if(sweep_.points.begin(), sweep_.points.end(),
                         [](const SweepPoint& point) { return !point.projected; });
  }

  void begin(const std::string& launcher) {
    console_.line(fmt::format(
        "study      {}: {} in {}, by {}", sweep_.title,
        counted(std::count_if(sweep_.points.begin(), sweep_.points.end(), std::mem_fn(&SweepPoint::is_run)),
                "point"),
        sweep_.directory, launcher));
  }

  void warn_of_unreadable_metrics(const PointResult& result) {
    if (result.metrics.unreadable_lines > 0)
      console_.warn(fmt::format("point \"{}\": unreadable lines of metrics are left out: {}; the first: {}",
                                result.point->name, result.metrics.unreadable_lines,
                                result.metrics.first_unreadable));
    if (result.metrics.torn && result.status() != "running")
      console_.warn(fmt::format("point \"{}\": metrics.jsonl ends inside a line, which is left out",
                                result.point->name));
  }

  /// The last lines and the exit code, from the results that the report shows.
  int finish(const std::vector<PointResult>& results) {
    int done = 0, points = 0, first_code = 0, illegal = 0, pending = 0, running = 0;
    for (const PointResult& result : results) {
      warn_of_unreadable_metrics(result);
      illegal += !result.point->illegal.empty() && !result.point->projected;
      if (!result.point->is_run()) continue;
      ++points;
      const std::optional<int> code = result.outcome.exit_code;
      done += code == 0;
      pending += result.status() == "pending";
      running += result.status() == "running";
      const bool lost = !code && result.job && !result.job->is_queued();
      if (first_code == 0 && (code || lost)) first_code = code.value_or(static_cast<int>(ExitCode::peer));
    }
    std::string counts = fmt::format("{} of {} points", done, points);
    for (const auto& [number, what] :
         {std::pair(running, "running"), std::pair(pending, "pending"), std::pair(illegal, "illegal")})
      if (number > 0) counts += fmt::format(", {} {}", number, what);
    console_.line(fmt::format("{:<11}{}; {}/study.html and {}", done == points ? "done" : "ended", counts,
                              sweep_.directory, sweep_.scaling ? "scaling.csv" : "study.csv"));
    if (running + pending > 0) {
      console_.line("waiting    the same command collects what has finished");
      return static_cast<int>(ExitCode::resumable);
    }
    if (done < points && stop_signal() != 0) {
      console_.line("stopped    the same command resumes it");
      return static_cast<int>(ExitCode::resumable);
    }
    if (arguments_.slurm && done < points) console_.line("failed     --resubmit submits failed points again");
    if (first_code == 0) console_.require_written();
    return first_code;
  }

  const Sweep& sweep_;
  const StudyArguments& arguments_;
  RunLock lock_;  // keeps other studies out of the folder
  Console console_;
  PointRunner runner_;
};

/// What an element of a job array runs. It neither locks the study's folder nor writes the report.
int run_one(const Sweep& sweep, const std::string& name) {
  const auto point = std::find_if(sweep.points.begin(), sweep.points.end(),
                                  [&](const SweepPoint& one) { return one.name == name && one.is_run(); });
  if (point == sweep.points.end())
    throw UsageError("study: --point: {} has no point \"{}\" that runs", sweep.title, name);
  const std::string folder = made(folder_of(sweep, *point));
  const RunLock lock(folder, lock_options());
  Console console(true);
  PointRunner runner(sweep, console);
  runner.require_unchanged(*point);
  catch_stop_signals();
  const std::string label = "point  " + name;
  if (outcome_of(folder).exit_code == 0)
    console.line(label + ": already done");
  else
    runner.run(*point, label);
  return outcome_of(folder).exit_code.value_or(0);
}

}  // namespace

int study(const StudyArguments& arguments) {
  if (arguments.slurm) require_slurm();
  Sweep sweep = read_sweep(arguments.sweep, arguments.sets, best_layout);
  if (!arguments.launcher.empty()) sweep.launcher = arguments.launcher;
  if (sweep.launcher.find("{ranks}") == std::string::npos)
    throw UsageError("study: launcher \"{}\" does not contain {{ranks}}", sweep.launcher);
  if (!arguments.point.empty()) return run_one(sweep, arguments.point);
  if (sweep.scaling) plan_points(sweep);
  Study study(sweep, arguments);
  return arguments.slurm ? study.run_in_slurm() : study.run();
}

}  // namespace foretoken

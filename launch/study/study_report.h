#pragma once
// The results of a study so far, read from its points' folders: a table (CSV) and a page (HTML) with its
// figures, which are also written as SVG files.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/report/metrics_history.h"
#include "launch/doctor/machine_record.h"
#include "launch/study/slurm_array.h"
#include "launch/study/sweep.h"

namespace foretoken {

/// The end of a point's process; no exit code if it has not ended.
struct Outcome {
  std::optional<int> exit_code;
  double seconds = 0;   // sum over all launches of the point
  std::string reason;   // of a failure: the line of its output that says why
  std::string command;  // that ran it; empty in files of earlier versions
};
Outcome outcome_of(const std::string& point_folder);
void write_outcome(const std::string& point_folder, const Outcome& outcome);

struct PointResult {
  const SweepPoint* point = nullptr;
  int index = 0;  // in the sweep
  Outcome outcome;
  std::int64_t parameters = 0;
  MetricsHistory metrics;
  std::optional<MachineRecord> machine;  // of its newest launch
  std::optional<PointJob> job;           // its newest job in Slurm
  /// Medians over the steps after the first fifth or, in a scaling study, after the warm-up; 0 if there are
  /// none.
  double tokens_per_second = 0;
  double milliseconds = 0;

  /// "done", "failed (3)", "stopped", "interrupted" (no exit code, but steps), "not run", "illegal",
  /// "projected"; or of a job without a result "pending", "running" or "failed (timeout)".
  std::string status() const;
  /// Why it failed or is illegal; empty otherwise.
  const std::string& reason() const;
  /// The steps that are measured.
  std::span<const MetricsHistory::Step> measured(const Sweep& sweep) const;
  std::int64_t depths() const { return point->config.mtp.depths; }
  /// Loss of depth k in the last evaluation, and the lowest of all evaluations after step 0.
  std::optional<double> final_loss(std::size_t depth) const;
  std::optional<double> best_loss(std::size_t depth) const;
  /// The last evaluation if there is one, otherwise the last step; nullptr if there is neither.
  const MetricsHistory::Losses* last() const;
  /// The same, restricted to evaluations and steps that measured acceptance.
  const MetricsHistory::Losses* last_acceptance() const;
};
PointResult result_of(const Sweep& sweep, const SweepPoint& point);

/// Example: "main 1.532, 11250 tok/s".
std::string summary(const PointResult& result);

/// Returns the point that `result` is compared with. Candidates are the points without heads that have run.
/// The candidate that shares the most swept settings with `result` is chosen; mtp.* settings do not count.
/// nullptr if there is no candidate.
const PointResult* baseline_of(const PointResult& result, const Sweep& sweep,
                               const std::vector<PointResult>& results);

/// A header and one row per point; unknown fields are empty.
std::string study_csv(const Sweep& sweep, const std::vector<PointResult>& results);

struct Figure {
  std::string name;  // name of its file without .svg
  std::string section;
  std::string svg;
};
std::vector<Figure> study_figures(const Sweep& sweep, const std::vector<PointResult>& results);

/// Parts of pages of studies, in HTML: "5 of 6 points done, 2026-11-22 10:00 UTC; launched by mpirun", the
/// figures below their sections' headings, and the page around `body` with the sweep's file at its end.
std::string progress_html(const Sweep& sweep, const std::vector<PointResult>& results);
std::string figures_html(const std::vector<Figure>& figures);
std::string whole_page(const Sweep& sweep, const std::string& body, const std::string& sweep_text);

/// The whole page; `sweep_text` is the sweep's file, for its last section.
std::string study_page(const Sweep& sweep, const std::vector<PointResult>& results,
                       const std::vector<Figure>& figures, const std::string& sweep_text);

/// The same of a scaling study (launch/study/scaling_rows.h).
std::vector<Figure> scaling_figures(const Sweep& sweep, const std::vector<PointResult>& results);
std::string scaling_page(const Sweep& sweep, const std::vector<PointResult>& results,
                         const std::vector<Figure>& figures, const std::string& sweep_text);

/// Writes study.csv, study.html and figures/, and scaling.csv of a scaling study, into the study's folder.
/// Returns the results that they show.
std::vector<PointResult> write_report(const Sweep& sweep, const std::string& sweep_file);

}  // namespace foretoken

// The page of a scaling study.
#include <algorithm>

#include <fmt/format.h>

#include "io/report/metrics.h"
#include "io/report/page.h"
#include "io/report/svg.h"
#include "launch/study/scaling_rows.h"
#include "launch/study/study_plan.h"

namespace foretoken {

namespace {

constexpr double gib = 1024.0 * 1024 * 1024;

std::string spread_text(const Spread& spread, int digits) {
  if (spread.lowest == spread.highest) return fmt::format("{:.{}f}", spread.median, digits);
  return fmt::format("{:.{}f} ({:.{}f} to {:.{}f})", spread.median, digits, spread.lowest, digits,
                     spread.highest, digits);
}

const char* style_of(const std::string& status) {
  if (status.starts_with("failed") || status == "illegal") return "bad";
  return status == "done" || status == "projected" || status == "pending" || status == "running" ? ""
                                                                                                 : "worse";
}

std::string gib_text(double bytes) {
  return fmt::format("{:.3f} GiB", bytes / gib);
}

std::string summary_table(const Sweep& sweep, const std::vector<ScalingRow>& rows) {
  std::vector<std::string> headings{"ranks", "status", "layout"};
  for (const std::string& name : sweep.swept)
    if (name != "ranks") headings.push_back(name == "layout" ? "name" : name);
  headings.insert(headings.end(), {"rows a step", "tokens/s", "per rank", "ms a step", "ms, plan", "speed-up",
                                   "speed-up, plan", "efficiency", "memory", "memory, plan"});
  const SharingMarks marks(rows);
  std::vector<std::vector<PageCell>> cells;
  for (const ScalingRow& row : rows) {
    std::vector<PageCell>& line = cells.emplace_back();
    line.push_back({std::to_string(row.ranks) + marks.of(row)});
    line.push_back({row.status, style_of(row.status)});
    line.push_back({row.layout.empty() ? "–" : row.layout});
    for (const std::string& name : sweep.swept)
      if (name != "ranks") line.push_back({row.point->settings.at(name)});
    line.push_back({std::to_string(row.point->config.train.global_batch)});
    const std::optional<PlannedStep>& plan = row.planned();
    line.push_back({row.tokens_per_second ? spread_text(*row.tokens_per_second, 0) : "–"});
    line.push_back(
        {row.tokens_per_second ? fmt::format("{:.0f}", row.tokens_per_second->median / row.ranks) : "–"});
    line.push_back({row.milliseconds ? spread_text(*row.milliseconds, 1) : "–"});
    line.push_back({plan ? fmt::format("{:.1f}", plan->total) : "–"});
    line.push_back({row.speedup ? fmt::format("{:.2f}×", *row.speedup) : "–"});
    line.push_back({row.planned_speedup ? fmt::format("{:.2f}×", *row.planned_speedup) : "–"});
    line.push_back({row.efficiency ? fmt::format("{:.0f} %", 100 * *row.efficiency) : "–"});
    line.push_back({row.peak_memory_bytes ? gib_text(static_cast<double>(*row.peak_memory_bytes)) : "–"});
    line.push_back({plan ? gib_text(static_cast<double>(plan->memory_bytes)) : "–"});
  }
  return html_table(headings, cells);
}

/// Marks of shared devices, and what went wrong, in whole sentences below the table.
std::string notes_html(const std::vector<ScalingRow>& rows) {
  std::string text;
  const std::vector<std::string> notes = SharingMarks(rows).notes();
  for (const std::string& note : notes) text += "<p>" + xml_text(note) + "</p>\n";
  if (!notes.empty())
    text +=
        "<p>Ranks that share cores or a GPU slow each other: their times say nothing about as many ranks "
        "with a device each, which the plan assumes.</p>\n";
  for (const ScalingRow& row : rows)
    if (!row.reason.empty())
      text += fmt::format("<p><span class=\"bad\">{}: {}</span>: {}</p>\n", xml_text(row.group),
                          xml_text(row.status == "done" ? "no plan" : row.status), xml_text(row.reason));
  return text;
}

std::string run_table(const Sweep& sweep, const std::vector<PointResult>& results) {
  const std::vector<std::string> headings{"run",   "status",    "tokens/s",   "ms a step",      "shared",
                                          "hosts", "device",    "clock, MHz", "power limit, W", "driver",
                                          "CUDA",  "transport", "MPI",        "commit",         "time"};
  std::vector<std::vector<PageCell>> cells;
  for (const PointResult& result : results) {
    if (result.point->projected) continue;
    const std::vector<std::string> columns = run_columns(), fields = run_fields(sweep, result);
    const auto field = [&](std::string_view name) -> std::string {
      const auto place = std::find(columns.begin(), columns.end(), name) - columns.begin();
      std::string text = fields.at(static_cast<std::size_t>(place));
      return text.empty() ? "–" : text;
    };
    const bool ran = result.tokens_per_second > 0;
    std::vector<PageCell>& line = cells.emplace_back();
    line.push_back({result.point->name});
    line.push_back({result.status(), style_of(result.status())});
    line.push_back({ran ? fmt::format("{:.0f}", result.tokens_per_second) : "–"});
    line.push_back({ran ? fmt::format("{:.2f}", result.milliseconds) : "–"});
    for (const char* name : {"sharing", "hosts", "devices", "clock_MHz", "power_limit_W", "driver", "CUDA",
                             "transport", "MPI", "commit"})
      line.push_back({field(name)});
    line.push_back({result.outcome.exit_code ? duration_in_words(result.outcome.seconds) : "–"});
  }
  return html_table(headings, cells);
}

}  // namespace

std::string scaling_page(const Sweep& sweep, const std::vector<PointResult>& results,
                         const std::vector<Figure>& figures, const std::string& sweep_text) {
  const ScalingStudy& scaling = *sweep.scaling;
  const std::vector<ScalingRow> rows = scaling_rows(sweep, results);
  std::string page = progress_html(sweep, results);
  page +=
      fmt::format("<h2>{} scaling</h2>\n", scaling.mode == ScalingStudy::Mode::strong ? "Strong" : "Weak");
  page += summary_table(sweep, rows) + notes_html(rows);
  page += fmt::format(
      "<p>{} Each number of ranks ran {} time{}: the median, and the lowest to the highest value. A run's "
      "tokens/s and time of a step are its medians over the steps after the first {}, which are left out as "
      "warm-up. Speed-up is relative to the fastest run with the fewest ranks; efficiency is speed-up "
      "divided "
      "by the ratio of the ranks. Memory is the largest peak of a rank (of the process on a CPU, in use on a "
      "GPU). Plan is what <code>foretoken plan{}</code> predicts for the layout; its speed-up is "
      "relative to its own prediction, and its memory is tensors and, on a GPU, libraries. Projected rows "
      "have "
      "not run. Checkpoint is the wait for saves between measured steps; the save at the end of a run does "
      "not "
      "count.{}</p>\n",
      scaling.mode == ScalingStudy::Mode::strong ? "The global batch is the same for all numbers of ranks."
                                                 : "The global batch grows with the ranks.",
      scaling.repeats, scaling.repeats == 1 ? "" : "s", scaling.warmup_steps,
      xml_text(plan_flags(scaling, rows.front().point->config)),
      scaling.best_layout ? " The layout of each number of ranks is the one with the shortest planned step."
                          : "");
  page += figures_html(figures);
  page += "<h2>Runs</h2>\n" + run_table(sweep, results);
  return whole_page(sweep, page, sweep_text);
}

}  // namespace foretoken

// The figures of a scaling study.
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "io/report/chart.h"
#include "io/report/svg.h"
#include "launch/study/scaling_rows.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

constexpr double gib = 1024.0 * 1024 * 1024;
constexpr double logarithmic_from = 8;  // ratio of the most to the fewest ranks

class Figures {
 public:
  explicit Figures(const std::vector<ScalingRow>& rows) : rows_(rows), marks_(rows), notes_(marks_.notes()) {
    for (const ScalingRow& row : rows) {
      if (std::find(series_.begin(), series_.end(), row.series) == series_.end())
        series_.push_back(row.series);
      if (row.tokens_per_second || row.planned()) ranks_.insert(row.ranks);
      if (row.tokens_per_second) most_measured_ = std::max(most_measured_, row.ranks);
      planned_ |= row.planned().has_value();
    }
    if (planned_ && most_measured_ > 0)
      notes_.push_back(
          *ranks_.rbegin() > most_measured_
              ? fmt::format("dotted: planned, and projected above {}", counted(most_measured_, "rank"))
              : "dotted: planned");
  }

  std::vector<Figure> all() {
    if (ranks_.empty()) return {};
    speedup();
    efficiency();
    rate_per_rank();
    time();
    memory();
    return std::move(figures_);
  }

 private:
  /// Of a row: measured, or planned as a spread without extent.
  using Value = std::optional<Spread> (*)(const ScalingRow&, Drawn);

  static Spread point(double value) { return {.median = value, .lowest = value, .highest = value}; }

  int colour_of(const ScalingRow& row) const {
    return static_cast<int>(std::find(series_.begin(), series_.end(), row.series) - series_.begin());
  }

  ChartLine line(const std::string& series, Drawn drawn, const Value& value) const {
    const bool planned = drawn == Drawn::predicted;
    ChartLine line{.name = planned ? (series == "measured" ? "plan" : series + ", plan") : series,
                   .marked = true};
    if (planned) line.kind = ChartLine::Kind::predicted;
    for (const ScalingRow& row : rows_) {
      if (row.series != series) continue;
      line.colour = colour_of(row);
      const std::optional<Spread> spread = value(row, drawn);
      if (!spread) continue;
      line.x.push_back(row.ranks);
      line.y.push_back(spread->median);
      if (planned) continue;
      line.low.push_back(spread->lowest);
      line.high.push_back(spread->highest);
      line.labels.push_back(marks_.of(row));
    }
    return line;
  }

  void add(const char* name, const char* title, const char* axis, const Value& value, bool wide_y,
           std::optional<ChartLine> ideal = std::nullopt) {
    LineChart chart{.title = title,
                    .x = {.title = "ranks", .logarithmic = is_wide()},
                    .y = {.title = axis, .logarithmic = wide_y && is_wide()},
                    .whole_x = true,
                    .notes = notes_};
    for (const int ranks : ranks_)
      chart.x_ticks.push_back({.at = static_cast<double>(ranks), .text = std::to_string(ranks)});
    // The plan lies below what was measured.
    for (const Drawn drawn : {Drawn::predicted, Drawn::measured})
      for (const std::string& series : series_)
        if (ChartLine each = line(series, drawn, value); !each.x.empty())
          chart.lines.push_back(std::move(each));
    if (ideal) chart.lines.push_back(std::move(*ideal));
    figures_.push_back({.name = name, .section = "Scaling", .svg = to_svg(chart)});
  }

  bool is_wide() const { return *ranks_.rbegin() > logarithmic_from * *ranks_.begin(); }

  /// The spread of the row, divided by its baseline's median and multiplied by `factor`.
  static std::optional<Spread> relative(const ScalingRow& row, double factor) {
    if (!row.speedup) return std::nullopt;
    factor /= row.baseline->tokens_per_second->median;
    return Spread{.median = factor * row.tokens_per_second->median,
                  .lowest = factor * row.tokens_per_second->lowest,
                  .highest = factor * row.tokens_per_second->highest};
  }

  ChartLine ideal(double (*value)(double ranks, double fewest)) const {
    ChartLine line{.name = "ideal", .kind = ChartLine::Kind::reference};
    for (const int ranks : ranks_) {
      line.x.push_back(ranks);
      line.y.push_back(value(ranks, *ranks_.begin()));
    }
    return line;
  }

  void speedup() {
    add(
        "speedup", "Speed-up", "tokens/s relative to the fewest ranks",
        [](const ScalingRow& row, Drawn drawn) -> std::optional<Spread> {
          if (drawn == Drawn::measured) return relative(row, 1);
          return row.planned_speedup ? std::optional(point(*row.planned_speedup)) : std::nullopt;
        },
        true, ideal([](double ranks, double fewest) { return ranks / fewest; }));
  }

  void efficiency() {
    add(
        "efficiency", "Parallel efficiency", "speed-up / ideal speed-up",
        [](const ScalingRow& row, Drawn drawn) -> std::optional<Spread> {
          if (drawn == Drawn::predicted)
            return row.planned_efficiency ? std::optional(point(*row.planned_efficiency)) : std::nullopt;
          if (row.baseline == nullptr) return std::nullopt;
          return relative(row, static_cast<double>(row.baseline->ranks) / row.ranks);
        },
        false, ideal([](double, double) { return 1.0; }));
  }

  void rate_per_rank() {
    add(
        "tokens_per_rank", "Throughput per rank", "tokens/s per rank",
        [](const ScalingRow& row, Drawn drawn) -> std::optional<Spread> {
          if (drawn == Drawn::predicted)
            return row.planned() ? std::optional(point(row.planned()->tokens_per_second / row.ranks))
                                 : std::nullopt;
          if (!row.tokens_per_second) return std::nullopt;
          const Spread& all = *row.tokens_per_second;
          return Spread{all.median / row.ranks, all.lowest / row.ranks, all.highest / row.ranks};
        },
        false);
  }

  /// "4*, pp=2", or "plan" below a measured bar of the same row.
  std::string bar_name(const ScalingRow& row, Drawn drawn, bool below_measured) const {
    if (below_measured) return "plan";
    return fmt::format("{}{}{}{}", row.ranks, marks_.of(row), series_.size() > 1 ? ", " + row.series : "",
                       drawn == Drawn::predicted ? ", plan" : "");
  }

  void time() {
    SpanChart chart{.title = "Where a step's time goes",
                    .axis = most_measured_ > 0 ? "ms per step, by number of ranks" : "ms per step, planned"};
    chart.notes = notes_;
    const auto add_bar = [&](const std::string& name, const std::vector<TimePart>& time, Drawn drawn) {
      SpanChart::Row bar{.name = name, .spans = {}, .predicted = drawn == Drawn::predicted};
      double total = 0;
      for (const TimePart& part : time) {
        const int colour = colour_of_part(chart, part.name);
        if (!(part.milliseconds > 0)) continue;
        bar.spans.push_back(
            {.begin = total, .end = total + part.milliseconds, .colour = colour, .label = ""});
        total += part.milliseconds;
      }
      bar.total = fmt::format("{:.4g} ms", total);
      chart.length = std::max(chart.length, total);
      chart.rows.push_back(std::move(bar));
    };
    for (const ScalingRow& row : rows_) {
      if (!row.time.empty()) add_bar(bar_name(row, Drawn::measured, false), row.time, Drawn::measured);
      if (const auto& plan = row.planned())
        add_bar(bar_name(row, Drawn::predicted, !row.time.empty()),
                {{"compute", plan->compute},
                 {"bubble", plan->bubble},
                 {"exposed communication", plan->communication},
                 {"optimizer", plan->optimizer}},
                Drawn::predicted);
    }
    figures_.push_back({.name = "time", .section = "Cost", .svg = to_svg(chart)});
  }

  static int colour_of_part(SpanChart& chart, const std::string& name) {
    for (const auto& [known, colour] : chart.legend)
      if (known == name) return colour;
    chart.legend.emplace_back(name, static_cast<int>(chart.legend.size()));
    return chart.legend.back().second;
  }

  void memory() {
    BarChart chart{.title = "Memory of the fullest rank", .axis = "GiB, by number of ranks", .notes = notes_};
    const auto add_bar = [&](const ScalingRow& row, Drawn drawn, double bytes) {
      const double value = bytes / gib;
      chart.bars.push_back(
          {.name = bar_name(row, drawn, drawn == Drawn::predicted && row.peak_memory_bytes.has_value()),
           .colour = colour_of(row),
           .value = value,
           .label = fmt::format("{:.3g} GiB", value),
           .predicted = drawn == Drawn::predicted});
    };
    for (const ScalingRow& row : rows_) {
      if (row.peak_memory_bytes) add_bar(row, Drawn::measured, static_cast<double>(*row.peak_memory_bytes));
      if (row.planned()) add_bar(row, Drawn::predicted, static_cast<double>(row.planned()->memory_bytes));
    }
    if (!chart.bars.empty()) figures_.push_back({.name = "memory", .section = "Cost", .svg = to_svg(chart)});
  }

  const std::vector<ScalingRow>& rows_;
  SharingMarks marks_;
  std::vector<std::string> notes_;
  std::vector<std::string> series_;
  std::set<int> ranks_;    // measured or planned
  int most_measured_ = 0;  // ranks
  bool planned_ = false;
  std::vector<Figure> figures_;
};

}  // namespace

std::vector<Figure> scaling_figures(const Sweep& sweep, const std::vector<PointResult>& results) {
  const std::vector<ScalingRow> rows = scaling_rows(sweep, results);
  return Figures(rows).all();
}

}  // namespace foretoken

// The figures of a scaling study.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "io/report/chart.h"
#include "launch/study/scaling_rows.h"

namespace foretoken {

namespace {

constexpr double gib = 1024.0 * 1024 * 1024;
constexpr double logarithmic_from = 8;  // ratio of the most to the fewest ranks

class Figures {
 public:
  explicit Figures(const std::vector<ScalingRow>& rows) : rows_(rows) {
    for (const ScalingRow& row : rows) {
      if (std::find(series_.begin(), series_.end(), row.series) == series_.end())
        series_.push_back(row.series);
      if (row.tokens_per_second) add_tick(row);
    }
    for (const ScalingRow& row : rows)
      if (row.tokens_per_second && !row.sharing.empty())
        if (const std::string note = "* " + row.sharing;
            std::find(notes_.begin(), notes_.end(), note) == notes_.end())
          notes_.push_back(note);
  }

  std::vector<Figure> all() {
    if (ticks_.empty()) return {};
    speedup();
    efficiency();
    rate_per_rank();
    time();
    memory();
    return std::move(figures_);
  }

 private:
  using Value = std::optional<Spread> (*)(const ScalingRow&);

  /// "4", or "4*" if ranks of a row share devices or cores.
  void add_tick(const ScalingRow& row) {
    const std::string text = std::to_string(row.ranks), marked = text + "*";
    const auto same = [&](const ChartTick& tick) { return tick.at == row.ranks; };
    const auto found = std::find_if(ticks_.begin(), ticks_.end(), same);
    if (found == ticks_.end())
      ticks_.push_back({.at = static_cast<double>(row.ranks), .text = row.sharing.empty() ? text : marked});
    else if (!row.sharing.empty())
      found->text = marked;
  }

  int colour_of(const ScalingRow& row) const {
    return static_cast<int>(std::find(series_.begin(), series_.end(), row.series) - series_.begin());
  }

  LineChart chart(const char* title, const char* axis, const Value& value) const {
    LineChart chart{.title = title,
                    .x = {.title = "ranks", .logarithmic = is_wide()},
                    .y = {.title = axis},
                    .whole_x = true,
                    .x_ticks = ticks_,
                    .notes = notes_};
    for (const std::string& name : series_) {
      ChartLine line{.name = name, .marked = true};
      for (const ScalingRow& row : rows_) {
        if (row.series != name) continue;
        line.colour = colour_of(row);
        const std::optional<Spread> spread = value(row);
        if (!spread) continue;
        line.x.push_back(row.ranks);
        line.y.push_back(spread->median);
        line.low.push_back(spread->lowest);
        line.high.push_back(spread->highest);
      }
      if (!line.x.empty()) chart.lines.push_back(std::move(line));
    }
    return chart;
  }

  void add(const char* name, LineChart chart) {
    figures_.push_back({.name = name, .section = "Scaling", .svg = to_svg(chart)});
  }

  bool is_wide() const {
    const auto [low, high] = std::minmax_element(ticks_.begin(), ticks_.end(),
                                                 [](const auto& a, const auto& b) { return a.at < b.at; });
    return high->at / low->at > logarithmic_from;
  }

  /// The spread of the row, divided by its baseline's median and multiplied by `factor`.
  static std::optional<Spread> relative(const ScalingRow& row, double factor) {
    if (!row.speedup) return std::nullopt;
    factor /= row.baseline->tokens_per_second->median;
    return Spread{.median = factor * row.tokens_per_second->median,
                  .lowest = factor * row.tokens_per_second->lowest,
                  .highest = factor * row.tokens_per_second->highest};
  }

  /// The reference from the fewest to the most measured ranks.
  ChartLine ideal(double (*value)(double ranks, double fewest)) const {
    ChartLine line{.name = "ideal", .reference = true};
    std::vector<double> all;
    for (const ChartTick& tick : ticks_) all.push_back(tick.at);
    std::sort(all.begin(), all.end());
    for (const double ranks : all) {
      line.x.push_back(ranks);
      line.y.push_back(value(ranks, all.front()));
    }
    return line;
  }

  void speedup() {
    LineChart lines = chart("Speed-up", "tokens/s, divided by tokens/s of the fewest ranks",
                            [](const ScalingRow& row) { return relative(row, 1); });
    lines.y.logarithmic = is_wide();
    lines.lines.push_back(ideal([](double ranks, double fewest) { return ranks / fewest; }));
    add("speedup", std::move(lines));
  }

  void efficiency() {
    LineChart lines = chart("Parallel efficiency", "speed-up, divided by the ideal",
                            [](const ScalingRow& row) -> std::optional<Spread> {
                              if (row.baseline == nullptr) return std::nullopt;
                              return relative(row, static_cast<double>(row.baseline->ranks) / row.ranks);
                            });
    lines.lines.push_back(ideal([](double, double) { return 1.0; }));
    add("efficiency", std::move(lines));
  }

  void rate_per_rank() {
    add("tokens_per_rank",
        chart("Throughput per rank", "tokens/s per rank", [](const ScalingRow& row) -> std::optional<Spread> {
          if (!row.tokens_per_second) return std::nullopt;
          const Spread& all = *row.tokens_per_second;
          return Spread{all.median / row.ranks, all.lowest / row.ranks, all.highest / row.ranks};
        }));
  }

  std::string bar_name(const ScalingRow& row) const {
    return fmt::format("{}{}{}", row.ranks, row.sharing.empty() ? "" : "*",
                       series_.size() > 1 ? ", " + row.series : "");
  }

  void time() {
    SpanChart chart{.title = "Where a step's time goes", .axis = "ms per step, by number of ranks"};
    chart.notes = notes_;
    const auto colour_of_part = [&](const std::string& name) {
      for (const auto& [known, colour] : chart.legend)
        if (known == name) return colour;
      chart.legend.emplace_back(name, static_cast<int>(chart.legend.size()));
      return chart.legend.back().second;
    };
    for (const ScalingRow& row : rows_) {
      if (row.time.empty()) continue;
      SpanChart::Row bar{.name = bar_name(row), .spans = {}};
      double total = 0;
      for (const TimePart& part : row.time) {
        const int colour = colour_of_part(part.name);
        if (!(part.milliseconds > 0)) continue;
        bar.spans.push_back(
            {.begin = total, .end = total + part.milliseconds, .colour = colour, .label = ""});
        total += part.milliseconds;
      }
      bar.total = fmt::format("{:.4g} ms", total);
      chart.length = std::max(chart.length, total);
      chart.rows.push_back(std::move(bar));
    }
    figures_.push_back({.name = "time", .section = "Cost", .svg = to_svg(chart)});
  }

  void memory() {
    BarChart chart{
        .title = "Peak memory of the fullest rank", .axis = "GiB, by number of ranks", .notes = notes_};
    for (const ScalingRow& row : rows_)
      if (row.peak_memory_bytes) {
        const double value = static_cast<double>(*row.peak_memory_bytes) / gib;
        chart.bars.push_back({.name = bar_name(row),
                              .colour = colour_of(row),
                              .value = value,
                              .label = fmt::format("{:.3g} GiB", value)});
      }
    if (!chart.bars.empty()) figures_.push_back({.name = "memory", .section = "Cost", .svg = to_svg(chart)});
  }

  const std::vector<ScalingRow>& rows_;
  std::vector<std::string> series_;
  std::vector<ChartTick> ticks_;
  std::vector<std::string> notes_;
  std::vector<Figure> figures_;
};

}  // namespace

std::vector<Figure> scaling_figures(const Sweep& sweep, const std::vector<PointResult>& results) {
  const std::vector<ScalingRow> rows = scaling_rows(sweep, results);
  return Figures(rows).all();
}

}  // namespace foretoken

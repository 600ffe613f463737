#include "io/report/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "io/report/svg.h"

namespace foretoken {
namespace {

constexpr int most_points = 240;                               // per line: about two per three pixels
constexpr std::size_t most_tooltips = 40, spaced_markers = 6;  // per line

// Charts have this width unless long names need more: a page scales a chart to its column, so charts of equal
// width have text of equal size. The width suits a telephone, and three charts in a row.
constexpr double chart_width = 480, fewest_plot = 180;
constexpr double plot_height = 230, bar_height = 22, legend_row = 20;
constexpr double left = 56, right_margin = 16, top = 42, bottom = 52;

/// Maps values to positions along one axis of the plot.
struct Scale {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  bool logarithmic = false;
  double begin = 0, end = 1;  // positions of low and high

  bool takes(double value) const { return std::isfinite(value) && (!logarithmic || value > 0); }
  void include(double value) {
    if (!takes(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  /// Adds a margin at both ends; an axis with one value or none gets a range that can be drawn.
  void widen(double share) {
    if (!(low <= high)) low = logarithmic ? 1 : 0, high = 1;
    if (logarithmic) {
      const double factor = std::max(1.02, std::pow(high / low, share));
      low /= factor;
      high *= factor;
      return;
    }
    double air = share * (high - low);
    if (!(high > low)) air = high == 0 ? 1 : 0.05 * std::abs(high);
    low -= air;
    high += air;
  }
  double at(double value) const {
    const double share =
        logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
    return begin + share * (end - begin);
  }
  std::vector<double> ticks(int count) const {
    return logarithmic ? logarithmic_ticks(low, high) : round_ticks(low, high, count);
  }
};

/// A dashed line between neighbouring points that both axes take.
std::string drawn_reference(const ChartLine& line, const Scale& x, const Scale& y) {
  std::string lines;
  for (std::size_t i = 1; i < std::min(line.x.size(), line.y.size()); ++i)
    if (x.takes(line.x[i - 1]) && y.takes(line.y[i - 1]) && x.takes(line.x[i]) && y.takes(line.y[i]))
      lines += svg_line(x.at(line.x[i - 1]), y.at(line.y[i - 1]), x.at(line.x[i]), y.at(line.y[i]),
                        Role::soft, true);
  return lines;
}

std::string drawn_spread(const ChartLine& line, const Scale& x, const Scale& y) {
  std::string bars;
  for (std::size_t i = 0; i < std::min({line.x.size(), line.low.size(), line.high.size()}); ++i)
    if (x.takes(line.x[i]) && y.takes(line.low[i]) && y.takes(line.high[i]))
      bars +=
          svg_path(fmt::format("M{0:.1f} {1:.1f}V{2:.1f}M{3:.1f} {1:.1f}h8M{3:.1f} {2:.1f}h8",
                               x.at(line.x[i]), y.at(line.low[i]), y.at(line.high[i]), x.at(line.x[i]) - 4),
                   line.colour);
  return bars;
}

Drawn kind_of(const ChartLine& line) {
  return line.kind == ChartLine::Kind::predicted ? Drawn::predicted : Drawn::measured;
}

/// Texts to the upper right of points.
std::string drawn_labels(const ChartLine& line, const Scale& x, const Scale& y) {
  std::string texts;
  for (std::size_t i = 0; i < std::min({line.x.size(), line.y.size(), line.labels.size()}); ++i)
    if (x.takes(line.x[i]) && y.takes(line.y[i]) && !line.labels[i].empty())
      texts += to_svg(SvgText{.x = x.at(line.x[i]) + 6,
                              .y = y.at(line.y[i]) - 3,
                              .text = line.labels[i],
                              .anchor = "start",
                              .size = 14,
                              .role = Role::ink,
                              .halo = true});
  return texts;
}

std::string drawn(const ChartLine& line, const Scale& x, const Scale& y) {
  if (line.kind == ChartLine::Kind::reference) return drawn_reference(line, x, y);
  const std::size_t points = std::min(line.x.size(), line.y.size());
  const std::size_t stride = std::max<std::size_t>(1, (points + most_points - 1) / most_points);
  // A line of many points has few markers. Each line has them at other points, so that markers of close lines
  // do not cover each other.
  const bool marks_all = line.marked && points <= most_tooltips;
  const std::size_t between = marks_all ? 1 : std::max<std::size_t>(1, points / stride / spaced_markers);
  std::size_t until_mark = marks_all ? 0 : between * (static_cast<std::size_t>(line.colour) % 7) / 7;
  std::string path, marks;
  bool joined = false;
  for (std::size_t i = 0; i < points; i = i + stride < points || i + 1 == points ? i + stride : points - 1) {
    if (!x.takes(line.x[i]) || !y.takes(line.y[i])) {
      joined = false;
      continue;
    }
    const double px = x.at(line.x[i]), py = y.at(line.y[i]);
    path += fmt::format("{}{:.1f} {:.1f}", joined ? "L" : "M", px, py);
    joined = true;
    if (until_mark-- > 0) continue;
    until_mark = between - 1;
    marks += svg_marker(px, py, line.colour,
                        fmt::format("{}: {}, {:.5g}", line.name, short_number(line.x[i]), line.y[i]),
                        kind_of(line));
  }
  return drawn_spread(line, x, y) + svg_path(path, line.colour, kind_of(line)) + marks +
         drawn_labels(line, x, y);
}

/// Samples and names below the plot, in rows.
struct Legend {
  std::string content;
  double width = 0, height = 0;
};

Legend legend_of(const std::vector<ChartLine>& lines, double y) {
  constexpr double sample = 26, gap = 8, between = 18;
  Legend legend;
  double x = left;
  for (const ChartLine& line : lines) {
    const double width = sample + gap + width_of(line.name);
    if (x > left && x + width > chart_width - right_margin) {
      x = left;
      y += legend_row;
      legend.height += legend_row;
    }
    legend.content +=
        (line.kind == ChartLine::Kind::reference
             ? svg_line(x, y, x + sample, y, Role::soft, true)
             : svg_path(fmt::format("M{:.1f} {:.1f}h{}", x, y, sample), line.colour, kind_of(line)) +
                   svg_marker(x + sample / 2, y, line.colour, "", kind_of(line))) +
        to_svg(SvgText{.x = x + sample + gap, .y = y + 4, .text = line.name, .anchor = "start"});
    x += width + between;
    legend.width = std::max(legend.width, x - between + right_margin);
  }
  if (!lines.empty()) legend.height += legend_row;
  return legend;
}

/// Lines of text from `y` on.
Legend notes_of(const std::vector<std::string>& notes, double y) {
  Legend lines;
  for (const std::string& note : notes) {
    lines.content += to_svg(SvgText{.x = 12, .y = y + lines.height + 4, .text = note, .anchor = "start"});
    lines.height += legend_row;
    lines.width = std::max(lines.width, 12 + width_of(note) + right_margin);
  }
  return lines;
}

}  // namespace

std::string to_svg(const LineChart& chart) {
  const double base = top + plot_height;
  const Legend legend = legend_of(chart.lines, base + bottom + 10);
  const Legend notes = notes_of(chart.notes, base + bottom + 10 + legend.height);
  const double width = std::max({chart_width, legend.width, notes.width}), right = width - right_margin;
  Scale x{.logarithmic = chart.x.logarithmic, .begin = left, .end = right};
  Scale y{.logarithmic = chart.y.logarithmic, .begin = base, .end = top};
  for (const ChartLine& line : chart.lines)
    for (std::size_t i = 0; i < std::min(line.x.size(), line.y.size()); ++i)
      if (x.takes(line.x[i]) && y.takes(line.y[i])) {
        x.include(line.x[i]);
        y.include(line.y[i]);
        if (i < line.low.size()) y.include(line.low[i]);
        if (i < line.high.size()) y.include(line.high[i]);
      }
  x.widen(chart.whole_x ? 0.05 : 0.01);
  y.widen(0.04);

  std::string content;
  for (const double tick : y.ticks(6)) {
    content += svg_line(left, y.at(tick), right, y.at(tick), Role::grid);
    content +=
        to_svg(SvgText{.x = left - 8, .y = y.at(tick) + 4, .text = short_number(tick), .anchor = "end"});
  }
  for (const ChartTick& tick : chart.x_ticks) {
    content += svg_line(x.at(tick.at), base, x.at(tick.at), base + 5, Role::axis);
    content += to_svg(SvgText{.x = x.at(tick.at), .y = base + 20, .text = tick.text});
  }
  for (const double tick : chart.x_ticks.empty() ? x.ticks(6) : std::vector<double>()) {
    if (chart.whole_x && tick != std::round(tick)) continue;
    content += svg_line(x.at(tick), base, x.at(tick), base + 5, Role::axis);
    content += to_svg(SvgText{.x = x.at(tick), .y = base + 20, .text = short_number(tick)});
  }
  content += svg_line(left, base, right, base, Role::axis);
  content += to_svg(SvgText{.x = (left + right) / 2, .y = base + 40, .text = chart.x.title});
  content += to_svg(SvgText{.x = 14,
                            .y = top + plot_height / 2,
                            .text = chart.y.title,
                            .size = std::min(12.0, 12 * plot_height / width_of(chart.y.title)),
                            .vertical = true});
  for (const ChartLine& line : chart.lines) content += drawn(line, x, y);
  return framed(width, base + bottom + legend.height + notes.height, chart.title,
                content + legend.content + notes.content);
}

std::string to_svg(const BarChart& chart) {
  double names = 0, labels = 0;
  Scale x{.low = 0, .high = 0};
  for (const ChartBar& bar : chart.bars) {
    names = std::max(names, width_of(bar.name));
    labels = std::max(labels, width_of(bar.label));
    x.include(bar.value);
  }
  if (chart.reference) x.include(*chart.reference);
  if (!(x.high > 0)) x.high = 1;
  x.begin = 20 + names;
  x.end = std::max(x.begin + fewest_plot, chart_width - labels - 20);
  const double base = top + 4 + bar_height * static_cast<double>(chart.bars.size());

  std::string content;
  for (const double tick : x.ticks(4)) {
    content += svg_line(x.at(tick), top, x.at(tick), base, Role::grid);
    content += to_svg(SvgText{.x = x.at(tick), .y = base + 18, .text = short_number(tick)});
  }
  double row = top + 4;
  std::string ends;  // drawn over the reference
  for (const ChartBar& bar : chart.bars) {
    content += to_svg(SvgText{.x = x.begin - 8, .y = row + 15, .text = bar.name, .anchor = "end"});
    if (std::isfinite(bar.value)) {
      const double end = x.at(std::max(0.0, bar.value));
      content += svg_bar(x.begin, row + 3, end - x.begin, bar_height - 6, bar.colour,
                         bar.predicted ? Drawn::predicted : Drawn::measured);
      ends += to_svg(SvgText{.x = end + 6,
                             .y = row + 15,
                             .text = bar.label,
                             .anchor = "start",
                             .role = Role::ink,
                             .halo = true});
    }
    row += bar_height;
  }
  if (chart.reference)
    content += svg_line(x.at(*chart.reference), top - 4, x.at(*chart.reference), base, Role::ink, true);
  content += ends;
  content += svg_line(x.begin, top, x.begin, base, Role::axis);
  content += to_svg(SvgText{.x = (x.begin + x.end) / 2, .y = base + 38, .text = chart.axis});
  const Legend notes = notes_of(chart.notes, base + bottom + 4);
  return framed(std::max(x.end + labels + 20, notes.width), base + bottom - 4 + notes.height, chart.title,
                content + notes.content);
}

std::string to_svg(const SpanChart& chart) {
  constexpr double row_height = 24, row_gap = 6, label_size = 9;
  double names = 0, totals = 0;
  for (const SpanChart::Row& row : chart.rows) {
    names = std::max(names, width_of(row.name));
    if (!row.total.empty()) totals = std::max(totals, width_of(row.total) + 6);
  }
  const double begin = 12 + names + 10, margin = totals + right_margin,
               right = std::max(chart_width - margin, begin + fewest_plot);
  const double base = top + static_cast<double>(chart.rows.size()) * (row_height + row_gap);
  const double length = chart.length > 0 ? chart.length : 1;
  const auto at = [&](double value) { return begin + value / length * (right - begin); };

  std::string content;
  for (const double tick : round_ticks(0, length, 5)) {
    content += svg_line(at(tick), top - 4, at(tick), base, Role::grid);
    content += to_svg(SvgText{.x = at(tick), .y = base + 16, .text = short_number(tick)});
  }
  double y = top;
  for (const SpanChart::Row& row : chart.rows) {
    content +=
        to_svg(SvgText{.x = begin - 10, .y = y + row_height / 2 + 4, .text = row.name, .anchor = "end"});
    for (const SpanChart::Span& span : row.spans) {
      const double from = at(span.begin), to = at(span.end);
      content += svg_bar(from, y, std::max(0.4, to - from - 0.5), row_height, span.colour,
                         row.predicted ? Drawn::predicted : Drawn::measured);
      if (!span.label.empty() && width_of(span.label, label_size) + 4 < to - from)
        content += to_svg(SvgText{.x = (from + to) / 2,
                                  .y = y + row_height / 2 + 3,
                                  .text = span.label,
                                  .size = label_size,
                                  .role = Role::ink,
                                  .halo = true});
    }
    const double end = row.spans.empty() ? begin : at(row.spans.back().end);
    if (!row.total.empty())
      content += to_svg(SvgText{.x = end + 6,
                                .y = y + row_height / 2 + 4,
                                .text = row.total,
                                .anchor = "start",
                                .role = Role::ink});
    y += row_height + row_gap;
  }
  content += svg_line(begin, base, right, base, Role::axis);
  content += to_svg(SvgText{.x = (begin + right) / 2, .y = base + 36, .text = chart.axis});
  double x = 12, legend = base + 60;
  for (const auto& [name, colour] : chart.legend) {
    constexpr double sample = 14, gap = 6, between = 16;
    const double entry = sample + gap + width_of(name);
    if (x > 12 && x + entry > right) x = 12, legend += legend_row;
    content += svg_bar(x, legend - 10, sample, 12, colour);
    content += to_svg(SvgText{.x = x + sample + gap, .y = legend, .text = name, .anchor = "start"});
    x += entry + between;
  }
  const double height = chart.legend.empty() ? base + 46 : legend + 14;
  const double gap = chart.notes.empty() ? 0 : 8;
  const Legend notes = notes_of(chart.notes, height + gap);
  return framed(std::max(right + margin, notes.width), height + gap + notes.height, chart.title,
                content + notes.content);
}

}  // namespace foretoken

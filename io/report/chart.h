#pragma once
// Charts as SVG text for a file of its own or for a page, without scripts and without external fonts or
// styles. They follow a reader's preference for light or dark colours. Series differ in colour
// (io/report/palette.h) and in the shape of their markers.

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace foretoken {

struct ChartAxis {
  std::string title;         // with its unit
  bool logarithmic = false;  // non-positive values are left out
};

struct ChartLine {
  std::string name;
  int colour = 0;  // palette index; beyond the palette, lines are dashed and markers hollow
  std::vector<double> x, y;
  bool marked = false;  // a marker at every point, unless there are many; otherwise a few along the line
  std::vector<double> low, high;    // empty, or the spread of every y as a vertical bar
  std::vector<std::string> labels;  // empty, or a text beside every point
  /// A prediction is dashed with hollow markers; a reference is dashed, without colour and markers.
  enum class Kind { measured, predicted, reference } kind = Kind::measured;
};

/// A mark of an axis instead of those that the chart would choose.
struct ChartTick {
  double at = 0;
  std::string text;
};

/// Non-finite values leave a gap.
struct LineChart {
  std::string title;
  ChartAxis x, y;
  std::vector<ChartLine> lines;
  bool whole_x = false;            // x is a count: ticks at integers only
  std::vector<ChartTick> x_ticks;  // empty: chosen by the chart
  std::vector<std::string> notes;  // lines of text at the lower edge
};

struct ChartBar {
  std::string name;
  int colour = 0;
  double value = 0;
  std::string label;       // at the end of the bar
  bool predicted = false;  // hollow
};

/// Horizontal bars from zero, in one column.
struct BarChart {
  std::string title;
  std::string axis;  // with its unit
  std::vector<ChartBar> bars;
  std::optional<double> reference;  // position of a dashed line
  std::vector<std::string> notes;   // lines of text at the lower edge
};

/// Rows of spans along one axis from zero: timelines, stacked shares.
struct SpanChart {
  struct Span {
    double begin = 0, end = 0;
    int colour = 0;     // palette index
    std::string label;  // shown if it fits
  };
  struct Row {
    std::string name;
    std::vector<Span> spans;
    std::string total = {};  // text after the last span
    bool predicted = false;  // hollow
  };
  std::string title;
  std::string axis;   // with its unit
  double length = 0;  // of the axis
  std::vector<Row> rows;
  std::vector<std::pair<std::string, int>> legend;  // names of colours
  std::vector<std::string> notes;                   // lines of text at the lower edge
};

std::string to_svg(const LineChart& chart);
std::string to_svg(const BarChart& chart);
std::string to_svg(const SpanChart& chart);

/// About `count` multiples of 1, 2, 2.5 or 5 · 10ⁿ in [low, high], ascending.
std::vector<double> round_ticks(double low, double high, int count);
/// Ticks of a logarithmic axis in [low, high], low > 0: 1, 2, 5 · 10ⁿ, or more if these are few.
std::vector<double> logarithmic_ticks(double low, double high);
/// Examples: "0", "0.25", "2.5e-4", "12.5 K", "20 M". For axes and labels.
std::string short_number(double value);

}  // namespace foretoken

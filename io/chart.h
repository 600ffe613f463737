#pragma once
// Charts as SVG: text that stands alone in a file or inside a page, without scripts and without fonts or
// styles from elsewhere.

#include <optional>
#include <string>
#include <vector>

namespace foretoken {

struct ChartAxis {
  std::string title;         // with its unit
  bool logarithmic = false;  // values that are not positive are left out
};

struct ChartLine {
  std::string name;
  int colour = 0;  // of ten; beyond them the line is dashed
  std::vector<double> x, y;
  bool marked = false;  // its points are shown and tell their values under the pointer
};

/// Values that are not finite leave a gap.
struct LineChart {
  std::string title;
  ChartAxis x, y;
  std::vector<ChartLine> lines;
  bool whole_x = false;  // x counts something: ticks at integers alone
};

struct ChartBar {
  std::string name;
  int colour = 0;
  double value = 0;
  std::string label;  // at its end
};

/// Bars from zero, one below the other.
struct BarChart {
  std::string title;
  std::string axis;  // with its unit
  std::vector<ChartBar> bars;
  std::optional<double> reference;  // a dashed line there
};

std::string to_svg(const LineChart& chart);
std::string to_svg(const BarChart& chart);

/// About `count` multiples of 1, 2, 2.5 or 5 · 10ⁿ in [low, high], ascending.
std::vector<double> round_ticks(double low, double high, int count);
/// Values in [low, high], low > 0, that a reader of a logarithmic axis expects: 1, 2, 5 · 10ⁿ, or more where
/// these are few.
std::vector<double> logarithmic_ticks(double low, double high);
/// "0", "0.25", "1.5 K", "20 M": for axes and labels.
std::string short_number(double value);

/// Text for XML: & < > and quotes are escaped, control characters but line breaks become spaces.
std::string xml_text(const std::string& text);

}  // namespace foretoken

#include "io/report/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace foretoken {
namespace {

constexpr const char* colours[] = {"#374151", "#2563eb", "#ea580c", "#16a34a", "#c026d3",
                                   "#0891b2", "#dc2626", "#a16207", "#7c3aed", "#65a30d"};
constexpr const char* dashes[] = {"", "6 3", "2 3"};
constexpr int most_points = 240;  // per line: about one per two pixels

// All charts have the same width, so that their text has the same size; names that are too long make a chart
// wider.
constexpr double chart_width = 720, fewest_plot = 240;
constexpr double plot_height = 270, bar_height = 22;
constexpr double left = 64, top = 46, bottom = 52;

const char* colour_of(int index) {
  return colours[static_cast<std::size_t>(index) % std::size(colours)];
}

/// Estimated width of a text: the font is the reader's choice.
double width_of(const std::string& text, double size) {
  const auto characters = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
  return 0.56 * size * static_cast<double>(characters);
}

struct Place {
  double x = 0, y = 0;
  const char* anchor = "middle";
  double size = 12;
  const char* colour = "#4b5563";
  const char* more = "";  // further attributes
};

std::string text_at(const Place& place, const std::string& text) {
  return fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}" font-size="{}" fill="{}"{}>{}</text>)"
                     "\n",
                     place.x, place.y, place.anchor, place.size, place.colour, place.more, xml_text(text));
}

std::string line_between(double x1, double y1, double x2, double y2, const char* colour) {
  return fmt::format(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}"/>)"
                     "\n",
                     x1, y1, x2, y2, colour);
}

std::string framed(double width, double height, const std::string& title, const std::string& content) {
  return fmt::format(
             R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}" )"
             R"(role="img" aria-label="{2}" font-family="system-ui, 'DejaVu Sans', Arial, sans-serif">)"
             "\n"
             R"(<rect width="100%" height="100%" fill="#ffffff"/>)"
             "\n",
             width, height, xml_text(title)) +
         text_at({.x = left,
                  .y = 24,
                  .anchor = "start",
                  .size = 15,
                  .colour = "#111827",
                  .more = R"( font-weight="600")"},
                 title) +
         content + "</svg>\n";
}

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

std::string drawn(const ChartLine& line, const Scale& x, const Scale& y) {
  const std::size_t points = std::min(line.x.size(), line.y.size());
  const std::size_t stride = std::max<std::size_t>(1, (points + most_points - 1) / most_points);
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
    if (line.marked)
      marks += fmt::format(
          R"(<circle cx="{:.1f}" cy="{:.1f}" r="2.8" fill="{}"><title>{}: {}, {:.5g}</title></circle>)"
          "\n",
          px, py, colour_of(line.colour), xml_text(line.name), short_number(line.x[i]), line.y[i]);
  }
  const char* dash = dashes[static_cast<std::size_t>(line.colour) / std::size(colours) % std::size(dashes)];
  return fmt::format(R"(<path d="{}" fill="none" stroke="{}" stroke-width="1.8" stroke-linejoin="round"{}/>)"
                     "\n",
                     path, colour_of(line.colour),
                     *dash == 0 ? "" : fmt::format(R"( stroke-dasharray="{}")", dash)) +
         marks;
}

std::string vertical_title(double y, const std::string& title) {
  return text_at({.x = 16, .y = y, .more = fmt::format(R"x( transform="rotate(-90 16 {:.1f})")x", y).c_str()},
                 title);
}

}  // namespace

std::string xml_text(const std::string& text) {
  std::string escaped;
  for (const char c : text) switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += static_cast<unsigned char>(c) < 0x20 && c != '\n' ? ' ' : c;
    }
  return escaped;
}

std::string to_svg(const LineChart& chart) {
  Scale x{.logarithmic = chart.x.logarithmic};
  Scale y{.logarithmic = chart.y.logarithmic, .begin = top + plot_height, .end = top};
  double legend = 0;
  for (const ChartLine& line : chart.lines) {
    for (std::size_t i = 0; i < std::min(line.x.size(), line.y.size()); ++i)
      if (x.takes(line.x[i]) && y.takes(line.y[i])) x.include(line.x[i]), y.include(line.y[i]);
    legend = std::max(legend, width_of(line.name, 12));
  }
  const double beside = 60 + legend;  // width beside the plot: samples and names
  const double plot_width = std::max(fewest_plot, chart_width - left - beside);
  x.begin = left;
  x.end = left + plot_width;
  x.widen(chart.whole_x ? 0.05 : 0.01);
  y.widen(0.04);

  const double right = left + plot_width, base = top + plot_height;
  std::string content;
  for (const double tick : y.ticks(6)) {
    content += line_between(left, y.at(tick), right, y.at(tick), "#e5e7eb");
    content += text_at({.x = left - 8, .y = y.at(tick) + 4, .anchor = "end"}, short_number(tick));
  }
  for (const double tick : x.ticks(6)) {
    if (chart.whole_x && tick != std::round(tick)) continue;
    content += line_between(x.at(tick), base, x.at(tick), base + 5, "#9ca3af");
    content += text_at({.x = x.at(tick), .y = base + 20}, short_number(tick));
  }
  content += line_between(left, base, right, base, "#9ca3af");
  content += text_at({.x = left + plot_width / 2, .y = base + 40}, chart.x.title);
  content += vertical_title(top + plot_height / 2, chart.y.title);
  for (const ChartLine& line : chart.lines) content += drawn(line, x, y);
  double row = top + 10;
  for (const ChartLine& line : chart.lines) {
    ChartLine sample{.name = line.name, .colour = line.colour, .x = {0, 1}, .y = {0, 0}};
    const Scale along{.low = 0, .high = 1, .begin = right + 18, .end = right + 40};
    const Scale across{.low = 0, .high = 1, .begin = row, .end = row};
    content += drawn(sample, along, across);
    content += text_at({.x = right + 46, .y = row + 4, .anchor = "start"}, line.name);
    row += 20;
  }
  return framed(right + beside, std::max(base + bottom, row + 6), chart.title, content);
}

std::string to_svg(const BarChart& chart) {
  double names = 0, labels = 0;
  Scale x{.low = 0, .high = 0};
  for (const ChartBar& bar : chart.bars) {
    names = std::max(names, width_of(bar.name, 12));
    labels = std::max(labels, width_of(bar.label, 12));
    x.include(bar.value);
  }
  if (chart.reference) x.include(*chart.reference);
  if (!(x.high > 0)) x.high = 1;
  x.begin = 24 + names;
  x.end = std::max(x.begin + fewest_plot, chart_width - labels - 20);
  const double base = top + 4 + bar_height * static_cast<double>(chart.bars.size());

  std::string content;
  for (const double tick : x.ticks(6)) {
    content += line_between(x.at(tick), top, x.at(tick), base, "#e5e7eb");
    content += text_at({.x = x.at(tick), .y = base + 18}, short_number(tick));
  }
  double row = top + 4;
  std::string ends;  // drawn over the reference
  for (const ChartBar& bar : chart.bars) {
    content += text_at({.x = x.begin - 8, .y = row + 15, .anchor = "end"}, bar.name);
    if (std::isfinite(bar.value)) {
      const double end = x.at(std::max(0.0, bar.value));
      content +=
          fmt::format(R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2" fill="{}"/>)"
                      "\n",
                      x.begin, row + 3, end - x.begin, bar_height - 6, colour_of(bar.colour));
      ends += text_at({.x = end + 6,
                       .y = row + 15,
                       .anchor = "start",
                       .colour = "#111827",
                       .more = R"( paint-order="stroke" stroke="#ffffff" stroke-width="4")"},
                      bar.label);
    }
    row += bar_height;
  }
  if (chart.reference)
    content += fmt::format(
        R"(<line x1="{0:.1f}" y1="{1:.1f}" x2="{0:.1f}" y2="{2:.1f}" stroke="#111827" stroke-dasharray="3 3"/>)"
        "\n",
        x.at(*chart.reference), top - 4, base);
  content += ends;
  content += line_between(x.begin, top, x.begin, base, "#9ca3af");
  content += text_at({.x = (x.begin + x.end) / 2, .y = base + 38}, chart.axis);
  return framed(x.end + labels + 20, base + bottom - 4, chart.title, content);
}

}  // namespace foretoken

#include "io/report/svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "io/report/palette.h"
#include "runtime/enum_names.h"

namespace foretoken {

namespace {

constexpr Colour colour_of(Role role) {
  switch (role) {
    case Role::ink:
      return {.light = "#111827", .dark = "#f3f4f6"};
    case Role::soft:
      return {.light = "#4b5563", .dark = "#cbd5e1"};
    case Role::grid:
      return {.light = "#e5e7eb", .dark = "#334155"};
    case Role::axis:
      return {.light = "#9ca3af", .dark = "#64748b"};
  }
  return {};
}

constexpr std::array<const char*, 3> dashes{"", R"( stroke-dasharray="6 3")", R"( stroke-dasharray="2 3")"};
constexpr double marker_radius = 3.6;

std::size_t colour_of(int series) {
  return static_cast<std::size_t>(series) % series_colours.size();
}

/// Number of whole palettes before this series: 0 for the first series.
std::size_t repetition_of(int series) {
  return static_cast<std::size_t>(series) / series_colours.size();
}

/// Attributes for a series' colour as "fill" or "stroke".
std::string coloured(const char* what, int series) {
  const std::size_t colour = colour_of(series);
  return fmt::format(R"({0}="{1}" class="ft-{0}{2}")", what, series_colours[colour].light, colour);
}

std::string dark_style() {
  std::string style =
      fmt::format(".ft-paper{{fill:{0}}}.ft-halo{{stroke:{0}}}.ft-hollow{{fill:{0}}}", dark_paper);
  for (const Role role : enumerators<Role>())
    style +=
        fmt::format("text.ft-{0}{{fill:{1}}}line.ft-{0}{{stroke:{1}}}", name_of(role), colour_of(role).dark);
  for (std::size_t i = 0; i < series_colours.size(); ++i)
    style += fmt::format(".ft-fill{0}{{fill:{1}}}.ft-stroke{0}{{stroke:{1}}}", i, series_colours[i].dark);
  return "<style>@media (prefers-color-scheme: dark) {" + style + "}</style>\n";
}

/// A regular polygon around (x, y), its first corner at the angle `begin`, in degrees from the top.
std::string polygon(double x, double y, int corners, double begin, double radius) {
  std::string path;
  for (int i = 0; i < corners; ++i) {
    const double angle = (begin + 360.0 * i / corners - 90) * std::numbers::pi / 180;
    path += fmt::format("{}{:.1f} {:.1f}", i == 0 ? "M" : "L", x + radius * std::cos(angle),
                        y + radius * std::sin(angle));
  }
  return path + "Z";
}

struct Shape {
  std::string path;
  bool is_outline = false;  // it has no inside
};

Shape shape_at(double x, double y, std::size_t kind) {
  const double r = marker_radius;
  switch (kind % 7) {
    case 0:
      return {fmt::format("M{:.1f} {:.1f}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0Z", x - r, y,
                          fmt::arg("r", r), fmt::arg("d", 2 * r))};
    case 1:
      return {polygon(x, y, 4, 45, 1.3 * r)};
    case 2:
      return {polygon(x, y, 3, 0, 1.35 * r)};
    case 3:
      return {polygon(x, y, 4, 0, 1.35 * r)};
    case 4:
      return {polygon(x, y, 3, 180, 1.35 * r)};
    case 5:
      return {fmt::format("M{:.1f} {:.1f}h{d}M{:.1f} {:.1f}v{d}", x - r, y, x, y - r, fmt::arg("d", 2 * r)),
              true};
    default:
      return {fmt::format("M{:.1f} {:.1f}l{d} {d}m-{d} 0l{d} -{d}", x - 0.8 * r, y - 0.8 * r,
                          fmt::arg("d", 1.6 * r)),
              true};
  }
}

}  // namespace

double width_of(const std::string& text, double size) {
  const auto characters = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
  return 0.56 * size * static_cast<double>(characters);
}

std::string to_svg(const SvgText& text) {
  std::string more;
  if (text.bold) more += R"( font-weight="600")";
  if (text.halo) more += fmt::format(R"( paint-order="stroke" stroke="{}" stroke-width="4")", light_paper);
  if (text.vertical) more += fmt::format(R"x( transform="rotate(-90 {:.1f} {:.1f})")x", text.x, text.y);
  return fmt::format(
      R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}" font-size="{}" fill="{}" class="ft-{}{}"{}>{}</text>)"
      "\n",
      text.x, text.y, text.anchor, text.size, colour_of(text.role).light, name_of(text.role),
      text.halo ? " ft-halo" : "", more, xml_text(text.text));
}

std::string svg_line(double x1, double y1, double x2, double y2, Role role, bool dashed) {
  return fmt::format(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" class="ft-{}"{}/>)"
                     "\n",
                     x1, y1, x2, y2, colour_of(role).light, name_of(role),
                     dashed ? R"( stroke-dasharray="3 3")" : "");
}

std::string svg_path(const std::string& path, int series, Drawn drawn) {
  const std::size_t dash = drawn == Drawn::predicted ? 2 : repetition_of(series) % dashes.size();
  return fmt::format(R"(<path d="{}" fill="none" {} stroke-width="1.8" stroke-linejoin="round"{}/>)"
                     "\n",
                     path, coloured("stroke", series), dashes[dash]);
}

std::string svg_bar(double x, double y, double width, double height, int series, Drawn drawn) {
  if (drawn == Drawn::measured)
    return fmt::format(R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2" {}/>)"
                       "\n",
                       x, y, width, height, coloured("fill", series));
  return fmt::format(
      R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2" fill="none" {} stroke-width="1.6"{}/>)"
      "\n",
      x + 0.8, y + 0.8, std::max(0.0, width - 1.6), height - 1.6, coloured("stroke", series), dashes[2]);
}

std::string svg_marker(double x, double y, int series, const std::string& tooltip, Drawn drawn) {
  const std::size_t repetition = repetition_of(series);
  const Shape shape = shape_at(x, y, colour_of(series) + repetition);
  const std::string title = tooltip.empty() ? "" : "<title>" + xml_text(tooltip) + "</title>";
  if (shape.is_outline)
    return fmt::format(R"(<path d="{}" fill="none" {} stroke-width="2.2">{}</path>)"
                       "\n",
                       shape.path, coloured("stroke", series), title);
  if (repetition > 0 || drawn == Drawn::predicted)
    return fmt::format(R"(<g {} stroke-width="1.6"><path d="{}" fill="{}" class="ft-hollow">{}</path></g>)"
                       "\n",
                       coloured("stroke", series), shape.path, light_paper, title);
  return fmt::format(R"(<g {}><path d="{}" stroke="{}" class="ft-halo" stroke-width="0.8">{}</path></g>)"
                     "\n",
                     coloured("fill", series), shape.path, light_paper, title);
}

std::string framed(double width, double height, const std::string& title, const std::string& content) {
  return fmt::format(
             R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}" )"
             R"(role="img" aria-label="{2}" font-family="system-ui, 'DejaVu Sans', Arial, sans-serif">)"
             "\n{3}"
             R"(<rect width="100%" height="100%" fill="{4}" class="ft-paper"/>)"
             "\n",
             width, height, xml_text(title), dark_style(), light_paper) +
         to_svg(SvgText{.x = 12,
                        .y = 24,
                        .text = title,
                        .anchor = "start",
                        .size = 15,
                        .role = Role::ink,
                        .bold = true}) +
         content + "</svg>\n";
}

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

}  // namespace foretoken

#pragma once
// Parts of charts as SVG elements. Attributes give the light colours, so that every reader of SVG shows them;
// a style sheet in framed() changes them where dark colours are preferred.

#include <string>
#include <string_view>

namespace foretoken {

/// The purpose of an element; each purpose has a light and a dark colour.
enum class Role { ink, soft, grid, axis };

/// Last part of its class in the style sheet (runtime/enum_names.h).
constexpr std::string_view name_of(Role role) {
  switch (role) {
    case Role::ink:
      return "ink";
    case Role::soft:
      return "soft";
    case Role::grid:
      return "grid";
    case Role::axis:
      return "axis";
  }
  return {};
}

struct SvgText {
  double x = 0, y = 0;
  std::string text;
  const char* anchor = "middle";
  double size = 12;
  Role role = Role::soft;
  bool bold = false;
  bool halo = false;      // an edge in the background's colour
  bool vertical = false;  // rotated by 90°, to be read from bottom to top
};

/// Estimated width of a text: the font is the reader's choice.
double width_of(const std::string& text, double size = 12);

std::string to_svg(const SvgText& text);
std::string svg_line(double x1, double y1, double x2, double y2, Role role, bool dashed = false);
/// What a line or a bar shows. Predictions are dashed and hollow.
enum class Drawn { measured, predicted };

/// A path in a series' colour. It is also dashed if the palette is repeated for the series.
std::string svg_path(const std::string& path, int series, Drawn drawn = Drawn::measured);
std::string svg_bar(double x, double y, double width, double height, int series,
                    Drawn drawn = Drawn::measured);
/// The series' marker: a shape of its own, also hollow if the palette is repeated. `tooltip` may be empty.
std::string svg_marker(double x, double y, int series, const std::string& tooltip,
                       Drawn drawn = Drawn::measured);
/// A complete drawing with its title, on a background.
std::string framed(double width, double height, const std::string& title, const std::string& content);

/// Escapes text for XML: & < > and quotes become entities; control characters except line breaks become
/// spaces.
std::string xml_text(const std::string& text);

}  // namespace foretoken

#pragma once
// Colours of charts, for light and for dark backgrounds. Two series differ by at least 17 (CIEDE2000), also
// as seen with protanopia, deuteranopia or tritanopia, and from the background by a contrast of at least 3; a
// test computes both.

#include <array>

namespace foretoken {

struct Colour {
  const char* light;  // on light_paper
  const char* dark;   // on dark_paper
};

inline constexpr const char* light_paper = "#ffffff";
inline constexpr const char* dark_paper = "#111827";

inline constexpr std::array<Colour, 7> series_colours{{
    {.light = "#111827", .dark = "#f3f4f6"},  // ink
    {.light = "#179ae9", .dark = "#50abff"},  // blue
    {.light = "#fc4d8f", .dark = "#ff6c9e"},  // pink
    {.light = "#97920a", .dark = "#afa828"},  // olive
    {.light = "#177f5a", .dark = "#99ff9d"},  // green
    {.light = "#723d00", .dark = "#b54826"},  // brown
    {.light = "#16428e", .dark = "#0063e6"},  // navy
}};

}  // namespace foretoken

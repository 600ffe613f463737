#pragma once
// HTML pages without external parts, in light or dark colours as the reader prefers. Tables become cards on
// narrow screens: each cell has the attribute data-label with its heading.

#include <string>
#include <vector>

namespace foretoken {

/// A whole page. `body` follows the heading, which is also the title unless that is given.
std::string html_page(const std::string& heading, const std::string& title, const std::string& body);

struct PageCell {
  std::string text;
  std::string style_class = {};  // "better", "worse", "bad" or empty
};
/// A table that scrolls if it is wide. Rows have a cell for each heading; others are a DefectError.
std::string html_table(const std::vector<std::string>& headings,
                       const std::vector<std::vector<PageCell>>& rows);

struct PageFigure {
  std::string section;
  std::string svg;
};
/// Consecutive figures of a section as a grid below its heading.
std::string html_figures(const std::vector<PageFigure>& figures);

}  // namespace foretoken

#include "io/report/page.h"

#include <fmt/format.h>

#include "io/report/svg.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

// Wide tables become one card per point on narrow screens. Colours are variables, so that dark mode is one
// rule.
constexpr const char* style = R"(
:root { color-scheme: light dark; --page: #f8fafc; --paper: #ffffff; --ink: #111827; --soft: #4b5563;
  --edge: #d1d5db; --row: #f1f5f9; --better: #1d4ed8; --worse: #b45309; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0b1120; --paper: #111827; --ink: #f3f4f6; --soft: #cbd5e1;
    --edge: #475569; --row: #1e293b; --better: #7dd3fc; --worse: #fbbf24; --bad: #fca5a5; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1480px; padding: 28px 24px 60px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, 'DejaVu Sans', Arial, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 34px 0 12px; }
p { max-width: 70em; margin: 4px 0; color: var(--soft); }
.scroll + p { margin-top: 12px; }
.scroll { overflow-x: auto; background: var(--paper); border: 1px solid var(--edge); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 12px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px; text-align: right; overflow-wrap: normal; }
th { color: var(--soft); font-weight: 600; border-bottom: 2px solid var(--edge); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; font-weight: 600; }
th:nth-child(2), td:nth-child(2) { text-align: left; }
tbody tr + tr td { border-top: 1px solid var(--row); }
.better { color: var(--better); } .worse { color: var(--worse); }
.bad { color: var(--bad); font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); gap: 18px; }
figure { margin: 0; background: var(--paper); border: 1px solid var(--edge); border-radius: 8px; padding: 10px; }
figure svg { display: block; width: 100%; max-width: 720px; height: auto; margin: 0 auto; }
details { margin-top: 34px; color: var(--soft); }
pre { background: var(--paper); border: 1px solid var(--edge); border-radius: 8px; padding: 14px;
  overflow-x: auto; overflow-wrap: normal; font-size: 13px; }
@media (max-width: 1000px) {
  body { padding: 16px 10px 40px; }
  .figures { grid-template-columns: repeat(auto-fill, minmax(min(100%, 370px), 1fr)); gap: 10px; }
  figure { padding: 4px; }
  table, tbody { display: block; }
  thead { display: none; }
  tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 0 18px;
    padding: 10px; border-top: 1px solid var(--edge); }
  tr:first-child { border-top: 0; }
  td { display: flex; justify-content: space-between; gap: 8px; padding: 2px 0; }
  tbody tr + tr td { border-top: 0; }
  td:first-child { grid-column: 1 / -1; font-size: 14px; }
  td:not(:first-child)::before { content: attr(data-label); color: var(--soft); text-align: left; }
}
)";

}  // namespace

std::string html_page(const std::string& heading, const std::string& title, const std::string& body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n<h1>{}</h1>\n{}</body>\n</html>\n",
      xml_text(title), style, xml_text(heading), body);
}

std::string html_table(const std::vector<std::string>& headings,
                       const std::vector<std::vector<PageCell>>& rows) {
  std::string head, body;
  for (const std::string& name : headings) head += "<th>" + xml_text(name) + "</th>";
  for (const std::vector<PageCell>& row : rows) {
    if (row.size() != headings.size())
      throw DefectError("page: a row has {} cells, expected {}", row.size(), headings.size());
    body += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i)
      body += fmt::format(R"(<td data-label="{}"{}>{}</td>)", xml_text(headings.at(i)),
                          row[i].style_class.empty() ? "" : fmt::format(R"( class="{}")", row[i].style_class),
                          xml_text(row[i].text));
    body += "</tr>\n";
  }
  return "<div class=\"scroll\">\n<table>\n<thead><tr>" + head + "</tr></thead>\n<tbody>\n" + body +
         "</tbody>\n</table>\n</div>\n";
}

std::string html_figures(const std::vector<PageFigure>& figures) {
  std::string text, section;
  for (const PageFigure& figure : figures) {
    if (figure.section != section) {
      text += fmt::format("{}<h2>{}</h2>\n<div class=\"figures\">\n", section.empty() ? "" : "</div>\n",
                          xml_text(figure.section));
      section = figure.section;
    }
    text += "<figure>\n" + figure.svg + "</figure>\n";
  }
  return section.empty() ? text : text + "</div>\n";
}

}  // namespace foretoken

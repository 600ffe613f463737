// Charts: their ticks, and SVG that any XML parser accepts.
#include "io/report/chart.h"

#include <cmath>
#include <set>

#include "io/report/svg.h"
#include "tests/support/catch.h"
#include "tests/support/xml.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

LineChart example() {
  return {.title = "Loss & <time>",
          .x = {.title = "tokens"},
          .y = {.title = "loss, nats per token"},
          .lines = {{.name = "\"a\" & b", .colour = 0, .x = {0, 1e6, 2e6}, .y = {5, 3, 2}, .marked = true},
                    {.name = "c", .colour = 1, .x = {0, 1e6, 2e6}, .y = {4, NAN, 1.5}}}};
}

}  // namespace

TEST_CASE("the XML check finds each kind of error") {
  CHECK(xml_error("<a x=\"1\"><b/>text &amp; more</a>") == "");
  CHECK(xml_error("<!DOCTYPE html>\n<a/>\n") == "");
  for (const char* bad : {"", "<a>", "<a></b>", "<a/><a/>", "<a>&</a>", "<a x=1/>", "<a x=\"1\" x=\"2\"/>",
                          "<a x=\"<\"/>", "text<a/>", "<a", "<a b=\"c/>", "< a/>"}) {
    INFO(bad);
    CHECK(xml_error(bad) != "");
  }
}

TEST_CASE("ticks are round numbers inside the range, about as many as requested") {
  CHECK(round_ticks(0, 10, 5) == std::vector<double>{0, 2, 4, 6, 8, 10});
  CHECK(round_ticks(0, 1, 4) == std::vector<double>{0, 0.25, 0.5, 0.75, 1});
  CHECK(round_ticks(0.013, 0.0295, 4) == std::vector<double>{0.015, 0.02, 0.025});
  CHECK(round_ticks(-30, 25, 5) == std::vector<double>{-20, 0, 20});
  CHECK(round_ticks(3, 3, 5) == std::vector<double>{3});
  for (const double high : {1.0, 1.7, 3e-9, 4.2e12, 99.0, 101.0}) {
    const auto ticks = round_ticks(0, high, 6);
    INFO(high);
    CHECK((ticks.size() >= 4 && ticks.size() <= 8));
    CHECK(ticks.back() <= high * (1 + 1e-9));
  }
}

TEST_CASE("a small range has more logarithmic ticks per decade") {
  CHECK(logarithmic_ticks(1, 1000) == std::vector<double>{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000});
  CHECK(logarithmic_ticks(1.4, 5.6) == std::vector<double>{1.5, 2, 3, 4, 5});
  CHECK(logarithmic_ticks(1.01, 1.09).size() >= 3);
}

TEST_CASE("numbers are shortened and carry a suffix for their power of a thousand") {
  CHECK(short_number(0) == "0");
  CHECK(short_number(-0.25) == "-0.25");
  CHECK(short_number(9999) == "9999");
  CHECK(short_number(12500) == "12.5 K");
  CHECK(short_number(1.5e6) == "1.5 M");
  CHECK(short_number(2e9) == "2 G");
  CHECK(short_number(0.1 + 0.2) == "0.3");
  CHECK(short_number(0.0015) == "0.0015");
  CHECK(short_number(0.00125) == "1.25e-3");  // "0.00125" does not fit beside an axis
  CHECK(short_number(0.00025) == "2.5e-4");
  CHECK(short_number(1e-5) == "1e-5");
  CHECK(short_number(-3e-4) == "-3e-4");
  CHECK(short_number(12.345678) == "12.35");
}

TEST_CASE("a line chart is well-formed and leaves a gap at values that are not finite") {
  const std::string svg = to_svg(example());
  CHECK(xml_error(svg) == "");
  CHECK_THAT(svg, contains("Loss &amp; &lt;time&gt;") && contains("&quot;a&quot; &amp; b") &&
                      contains(">1.5 M<") && contains("loss, nats per token"));
  CHECK(count(svg, "<title>") == 5);  // a marker for each finite point
  const std::size_t second = svg.find("stroke1\"");
  const std::size_t begin = svg.rfind("d=\"", second);
  const std::string path = svg.substr(begin, svg.find('"', begin + 3) - begin);
  CHECK(count(path, "M") == 2);  // two segments
  CHECK(count(svg, "nan") == 0);
}

TEST_CASE("a chart of no point, one point or many points is well-formed") {
  LineChart chart = example();
  chart.lines = {};
  CHECK(xml_error(to_svg(chart)) == "");
  chart.lines = {{.name = "one", .x = {3}, .y = {2}, .marked = true}};
  CHECK(xml_error(to_svg(chart)) == "");
  chart.y.logarithmic = true;
  for (int i = 0; i < 25; ++i) {
    ChartLine line{.name = "line", .colour = i};
    for (int x = 0; x < 5000; ++x) {
      line.x.push_back(x);
      line.y.push_back(i - 3 + 1.0 / (x + 1));
    }
    chart.lines.push_back(line);
  }
  const std::string svg = to_svg(chart);
  CHECK(xml_error(svg) == "");
  CHECK(svg.size() < 150'000);  // not every point of a long line is drawn
  CHECK_THAT(svg, contains("stroke-dasharray"));
  CHECK(count(svg, "nan") + count(svg, "inf") == 0);
}

TEST_CASE("every series has a marker of its own, and long lines have a few") {
  LineChart chart = example();
  chart.lines.clear();
  for (int i = 0; i < 9; ++i) {
    ChartLine line{.name = "line", .colour = i};
    for (int x = 0; x < 1000; ++x) {
      line.x.push_back(x);
      line.y.push_back(i + 1);
    }
    chart.lines.push_back(line);
  }
  const std::string svg = to_svg(chart);
  const int markers = count(svg, "<title>");
  CHECK(markers >= 9 * 6);
  CHECK(markers <= 9 * 8);
  std::set<std::string> shapes;
  for (int i = 0; i < 9; ++i) {
    const std::string marker = svg_marker(0, 0, i, "");
    shapes.insert(marker);
  }
  CHECK(shapes.size() == 9);
  CHECK_THAT(svg, contains("@media (prefers-color-scheme: dark)"));
}

TEST_CASE("a bar chart is well-formed, with its labels and its reference") {
  const std::string svg =
      to_svg(BarChart{.title = "Memory",
                      .axis = "GiB",
                      .bars = {{.name = "D = 0", .value = 1, .label = "1.00 (2 GiB)"},
                               {.name = "D = 1", .colour = 1, .value = 1.2, .label = "<1.20>"}},
                      .reference = 1});
  CHECK(xml_error(svg) == "");
  CHECK_THAT(svg, contains("1.00 (2 GiB)") && contains("&lt;1.20&gt;") && contains("stroke-dasharray"));
  CHECK(count(svg, "<rect") == 3);  // the background and two bars
  CHECK(xml_error(to_svg(BarChart{.title = "", .axis = "", .bars = {}, .reference = {}})) == "");
}

TEST_CASE("predictions are dotted and hollow, references have no marker, and labels stand at their points") {
  LineChart chart = example();
  const int dotted = count(to_svg(chart), "stroke-dasharray=\"2 3\""),
            hollow = count(to_svg(chart), "ft-hollow\"");
  CHECK(dotted == 0);
  chart.lines[0].kind = ChartLine::Kind::predicted;
  chart.lines[1].kind = ChartLine::Kind::reference;
  chart.lines[0].labels = {"", "*", "†"};
  chart.notes = {"* shared"};
  const std::string svg = to_svg(chart);
  CHECK(xml_error(svg) == "");
  CHECK(count(svg, "stroke-dasharray=\"2 3\"") == 2);      // the line and its legend
  CHECK(count(svg, "class=\"ft-hollow\"") == hollow + 4);  // three points and the legend
  CHECK(count(svg, "class=\"ft-stroke1\"") == 0);          // the reference has no colour
  CHECK(count(svg, ">*</text>") == 1);
  CHECK(count(svg, ">†</text>") == 1);
  CHECK(count(svg, ">* shared</text>") == 1);
}

TEST_CASE("a title of the value axis is never longer than the axis") {
  LineChart chart = example();
  const auto size_of = [&] {
    const std::string svg = to_svg(chart);
    const std::size_t at = svg.rfind("font-size=\"", svg.find("rotate(-90"));
    return std::stod(svg.substr(at + 11));
  };
  CHECK(size_of() == 12);
  chart.y.title = std::string(80, 'm');
  CHECK(width_of(chart.y.title, size_of()) <= 230);
}

TEST_CASE("rows of spans end with their totals, and predicted rows are hollow") {
  SpanChart chart{
      .title = "time",
      .axis = "ms",
      .length = 3,
      .rows = {{.name = "a", .spans = {{.begin = 0, .end = 2}, {.begin = 2, .end = 3}}, .total = "3 ms"},
               {.name = "b", .spans = {{.begin = 0, .end = 1}}, .total = "1 ms", .predicted = true}},
      .notes = {"dotted: planned"}};
  const std::string svg = to_svg(chart);
  CHECK(xml_error(svg) == "");
  CHECK(count(svg, ">3 ms</text>") == 1);
  CHECK(count(svg, ">1 ms</text>") == 1);
  CHECK(count(svg, ">dotted: planned</text>") == 1);
  CHECK(count(svg, "fill=\"none\"") == 1);
}

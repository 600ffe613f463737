// A study's page: one HTML file without external parts.
#include <algorithm>
#include <cmath>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "io/report/chart.h"
#include "io/report/metrics.h"
#include "io/report/svg.h"
#include "launch/study/study_report.h"

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

std::string number(std::optional<double> value, int digits) {
  return value ? fmt::format("{:.{}f}", *value, digits) : "–";
}

class Page {
 public:
  Page(const Sweep& sweep, const std::vector<PointResult>& results) : sweep_(sweep), results_(results) {
    for (const PointResult& result : results) {
      deepest_ = std::max(deepest_, static_cast<std::size_t>(result.depths()));
      validated_ |= result.best_loss(0).has_value();
      accepted_ |= accepted_length(result).has_value();
    }
    headings_ = {"point", "status"};
    headings_.insert(headings_.end(), sweep.swept.begin(), sweep.swept.end());
    headings_.insert(headings_.end(), {"parameters", validated_ ? "main, last" : "main, last step"});
    if (validated_) headings_.emplace_back("main, best");
    headings_.emplace_back("Δ D=0");
    for (std::size_t k = 1; k <= deepest_; ++k) headings_.push_back(fmt::format("depth {}", k));
    if (accepted_) headings_.emplace_back("accepted");
    headings_.insert(headings_.end(), {"tokens", "tokens/s", "× D=0", "memory", "time"});
  }

  std::string table() const {
    std::string rows, head;
    for (const PointResult& result : results_) rows += "<tr>" + row(result) + "</tr>\n";
    for (const std::string& name : headings_) head += "<th>" + xml_text(name) + "</th>";
    return "<table>\n<thead><tr>" + head + "</tr></thead>\n<tbody>\n" + rows + "</tbody>\n</table>\n";
  }

 private:
  static std::optional<double> last_loss(const PointResult& result, std::size_t k) {
    const MetricsHistory::Losses* last = result.last();
    if (last == nullptr || k >= last->depths.size() || !std::isfinite(last->depths[k])) return std::nullopt;
    return last->depths[k];
  }

  static std::optional<double> accepted_length(const PointResult& result) {
    const MetricsHistory::Losses* last = result.last_acceptance();
    return last == nullptr ? std::nullopt : last->accepted_length;
  }

  /// The cells of a row, in the order of the headings. Each cell repeats its heading, which a card shows.
  class Cells {
   public:
    explicit Cells(const std::vector<std::string>& headings) : headings_(headings) {}
    void add(const std::string& text, const std::string& style_class = "") {
      text_ +=
          fmt::format(R"(<td data-label="{}"{}>{}</td>)", xml_text(headings_.at(count_++)),
                      style_class.empty() ? "" : fmt::format(R"( class="{}")", style_class), xml_text(text));
    }
    const std::string& text() const { return text_; }

   private:
    const std::vector<std::string>& headings_;
    std::size_t count_ = 0;
    std::string text_;
  };

  std::string row(const PointResult& result) const {
    Cells cells(headings_);
    cells.add(result.point->name);
    const std::string status = result.status();
    cells.add(status, status.starts_with("failed") ? "bad" : "");
    for (const std::string& name : sweep_.swept) cells.add(result.point->settings.at(name));
    cells.add(short_number(static_cast<double>(result.parameters)));
    cells.add(number(last_loss(result, 0), 4));
    if (validated_) cells.add(number(result.best_loss(0), 4));
    const PointResult* baseline = baseline_of(result, sweep_, results_);
    const bool compared = baseline != nullptr && baseline->point != result.point;
    add_loss_change(cells, result, compared ? baseline : nullptr);
    for (std::size_t k = 1; k <= deepest_; ++k) cells.add(number(last_loss(result, k), 4));
    if (accepted_) cells.add(number(accepted_length(result), 2));
    const bool ran = !result.metrics.steps.empty();
    cells.add(ran ? short_number(static_cast<double>(result.metrics.steps.back().tokens_seen)) : "–");
    cells.add(ran ? fmt::format("{:.0f}", result.tokens_per_second) : "–");
    cells.add(ran && compared && baseline->tokens_per_second > 0
                  ? fmt::format("{:.2f}×", result.tokens_per_second / baseline->tokens_per_second)
                  : "–");
    const auto memory = result.metrics.peak_memory_bytes;
    cells.add(memory ? fmt::format("{:.2f} GiB", static_cast<double>(*memory) / (1 << 30)) : "–");
    cells.add(result.outcome.exit_code ? duration_in_words(result.outcome.seconds) : "–");
    return cells.text();
  }

  static void add_loss_change(Cells& cells, const PointResult& result, const PointResult* baseline) {
    const std::optional<double> mine = last_loss(result, 0);
    const std::optional<double> theirs = baseline == nullptr ? std::nullopt : last_loss(*baseline, 0);
    if (!mine || !theirs) return cells.add("–");
    const double change = *mine - *theirs;
    cells.add(fmt::format("{:+.4f}", change), change < 0 ? "better" : change > 0 ? "worse" : "");
  }

  const Sweep& sweep_;
  const std::vector<PointResult>& results_;
  std::vector<std::string> headings_;
  std::size_t deepest_ = 0;
  bool validated_ = false;
  bool accepted_ = false;
};

}  // namespace

std::string study_page(const Sweep& sweep, const std::vector<PointResult>& results,
                       const std::vector<Figure>& figures, const std::string& sweep_text) {
  const auto done = std::count_if(results.begin(), results.end(),
                                  [](const PointResult& result) { return result.outcome.exit_code == 0; });
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<title>{0}: a study by Foretoken</title>\n<style>{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n"
      "<p>{2} of {3} points done, {4:%Y-%m-%d %H:%M} UTC; launched by <code>{5}</code></p>\n",
      xml_text(sweep.title), style, done, results.size(), fmt::gmtime(std::time(nullptr)),
      xml_text(sweep.launcher));
  page += "<h2>Points</h2>\n<div class=\"scroll\">\n" + Page(sweep, results).table() + "</div>\n";
  page +=
      "<p>Losses are nats per token: of the last evaluation on held-out data, or else of the last training "
      "step. Depth k "
      "predicts the token k + 1 ahead. tokens/s is the median over the steps after the first fifth; memory "
      "is the largest peak of a rank (of the process on a CPU, in use on a GPU); time is from the start of "
      "the launcher to its end. D = 0 is the point without prediction heads that shares most of the other "
      "settings.</p>\n";
  std::string section;
  for (const Figure& figure : figures) {
    if (figure.section != section) {
      page += fmt::format("{}<h2>{}</h2>\n<div class=\"figures\">\n", section.empty() ? "" : "</div>\n",
                          xml_text(figure.section));
      section = figure.section;
    }
    page += "<figure>\n" + figure.svg + "</figure>\n";
  }
  if (!section.empty()) page += "</div>\n";
  page += "<details>\n<summary>The sweep</summary>\n<pre>" + xml_text(sweep_text) + "</pre>\n</details>\n";
  return page + "</body>\n</html>\n";
}

}  // namespace foretoken

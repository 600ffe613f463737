// A study's page: one HTML file without external parts.
#include <algorithm>
#include <cmath>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "io/report/chart.h"
#include "io/report/metrics.h"
#include "launch/study/study_report.h"

namespace foretoken {

namespace {

constexpr const char* style = R"(
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 1480px; padding: 28px 24px 60px; background: #f8fafc; color: #111827;
  font: 15px/1.5 system-ui, 'DejaVu Sans', Arial, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 34px 0 12px; }
p { max-width: 70em; margin: 4px 0; color: #4b5563; }
.scroll { overflow-x: auto; background: #fff; border: 1px solid #e5e7eb; border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 12.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 8px; text-align: right; white-space: nowrap; }
th { color: #4b5563; font-weight: 600; border-bottom: 2px solid #e5e7eb; white-space: normal;
  vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; font-weight: 600; }
tr + tr td { border-top: 1px solid #f1f5f9; }
.better { color: #15803d; } .worse { color: #b91c1c; } .bad { color: #b91c1c; font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(560px, 1fr)); gap: 18px; }
figure { margin: 0; background: #fff; border: 1px solid #e5e7eb; border-radius: 8px; padding: 10px; }
figure svg { display: block; max-width: 100%; height: auto; }
details { margin-top: 34px; color: #4b5563; }
pre { background: #fff; border: 1px solid #e5e7eb; border-radius: 8px; padding: 14px; overflow-x: auto;
  font-size: 13px; }
)";

std::string cell(const std::string& text, const char* style_class = "") {
  return *style_class == 0 ? fmt::format("<td>{}</td>", xml_text(text))
                           : fmt::format(R"(<td class="{}">{}</td>)", style_class, xml_text(text));
}

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
  }

  std::string table() const {
    std::string text = "<table>\n<tr><th>point</th>";
    const auto head = [&](const std::string& name) { text += "<th>" + xml_text(name) + "</th>"; };
    for (const std::string& name : sweep_.swept) head(name);
    head("parameters");
    head(validated_ ? "main, last" : "main, last step");
    if (validated_) head("main, best");
    head("Δ D=0");
    for (std::size_t k = 1; k <= deepest_; ++k) head(fmt::format("depth {}", k));
    if (accepted_) head("accepted");
    for (const char* name : {"tokens", "tokens/s", "× D=0", "memory", "time", "status"}) head(name);
    text += "</tr>\n";
    for (const PointResult& result : results_) text += row(result);
    return text + "</table>\n";
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

  std::string row(const PointResult& result) const {
    std::string text = "<tr>" + cell(result.point->name);
    for (const std::string& name : sweep_.swept) text += cell(result.point->settings.at(name));
    text += cell(short_number(static_cast<double>(result.parameters)));
    text += cell(number(last_loss(result, 0), 4));
    if (validated_) text += cell(number(result.best_loss(0), 4));
    const PointResult* baseline = baseline_of(result, sweep_, results_);
    const bool compared = baseline != nullptr && baseline->point != result.point;
    text += compared ? loss_change(result, *baseline) : cell("–");
    for (std::size_t k = 1; k <= deepest_; ++k) text += cell(number(last_loss(result, k), 4));
    if (accepted_) text += cell(number(accepted_length(result), 2));
    const bool ran = !result.metrics.steps.empty();
    text += cell(ran ? short_number(static_cast<double>(result.metrics.steps.back().tokens_seen)) : "–");
    text += cell(ran ? fmt::format("{:.0f}", result.tokens_per_second) : "–");
    text += cell(ran && compared && baseline->tokens_per_second > 0
                     ? fmt::format("{:.2f}×", result.tokens_per_second / baseline->tokens_per_second)
                     : "–");
    const auto memory = result.metrics.peak_memory_bytes;
    text += cell(memory ? fmt::format("{:.2f} GiB", static_cast<double>(*memory) / (1 << 30)) : "–");
    text += cell(result.outcome.exit_code ? duration_in_words(result.outcome.seconds) : "–");
    const std::string status = result.status();
    return text + cell(status, status.starts_with("failed") ? "bad" : "") + "</tr>\n";
  }

  static std::string loss_change(const PointResult& result, const PointResult& baseline) {
    const std::optional<double> mine = last_loss(result, 0), theirs = last_loss(baseline, 0);
    if (!mine || !theirs) return cell("–");
    const double change = *mine - *theirs;
    return cell(fmt::format("{:+.4f}", change), change < 0 ? "better" : change > 0 ? "worse" : "");
  }

  const Sweep& sweep_;
  const std::vector<PointResult>& results_;
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
      "<p>Losses are nats per token, of the last evaluation on held-out data where there is one. Depth k "
      "predicts the token k + 1 ahead. tokens/s is the median over the steps after the first fifth; memory "
      "is that of the fullest rank at its peak (of a process on the CPU, in use on a GPU); time is the "
      "launcher's, start to end. D = 0 is the point without prediction heads that shares most of the other "
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

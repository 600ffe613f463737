// A study's page: one HTML file without external parts.
#include <algorithm>
#include <cmath>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "io/report/chart.h"
#include "io/report/metrics.h"
#include "io/report/page.h"
#include "io/report/svg.h"
#include "launch/study/study_report.h"

namespace foretoken {

namespace {

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
    std::vector<std::vector<PageCell>> rows;
    for (const PointResult& result : results_) rows.push_back(row(result));
    return html_table(headings_, rows);
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

  /// The cells of a row, in the order of the headings.
  class Cells {
   public:
    void add(const std::string& text, const std::string& style_class = "") {
      cells_.push_back({.text = text, .style_class = style_class});
    }
    const std::vector<PageCell>& all() const { return cells_; }

   private:
    std::vector<PageCell> cells_;
  };

  std::vector<PageCell> row(const PointResult& result) const {
    Cells cells;
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
    return cells.all();
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
  std::string page = progress_html(sweep, results);
  page += "<h2>Points</h2>\n" + Page(sweep, results).table();
  page +=
      "<p>Losses are nats per token: of the last evaluation on held-out data, or else of the last training "
      "step. Depth k "
      "predicts the token k + 1 ahead. tokens/s is the median over the steps after the first fifth; memory "
      "is the largest peak of a rank (of the process on a CPU, in use on a GPU); time is from the start of "
      "the launcher to its end. D = 0 is the point without prediction heads that shares most of the other "
      "settings.</p>\n";
  return whole_page(sweep, page + figures_html(figures), sweep_text);
}

std::string progress_html(const Sweep& sweep, const std::vector<PointResult>& results) {
  const auto done = std::count_if(results.begin(), results.end(),
                                  [](const PointResult& result) { return result.outcome.exit_code == 0; });
  const auto illegal = std::count_if(results.begin(), results.end(), [](const PointResult& result) {
    return !result.point->illegal.empty() && !result.point->projected;
  });
  const auto run = std::count_if(results.begin(), results.end(),
                                 [](const PointResult& result) { return result.point->is_run(); });
  return fmt::format("<p>{} of {} points done{}, {:%Y-%m-%d %H:%M} UTC; launched by <code>{}</code></p>\n",
                     done, run, illegal > 0 ? fmt::format(", {} illegal", illegal) : "",
                     fmt::gmtime(std::time(nullptr)), xml_text(sweep.launcher));
}

std::string figures_html(const std::vector<Figure>& figures) {
  std::vector<PageFigure> drawn;
  for (const Figure& figure : figures) drawn.push_back({.section = figure.section, .svg = figure.svg});
  return html_figures(drawn);
}

std::string whole_page(const Sweep& sweep, const std::string& body, const std::string& sweep_text) {
  return html_page(sweep.title, sweep.title + ": a study by Foretoken",
                   body + "<details>\n<summary>The sweep</summary>\n<pre>" + xml_text(sweep_text) +
                       "</pre>\n</details>\n");
}

}  // namespace foretoken

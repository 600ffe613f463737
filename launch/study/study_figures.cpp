// The figures of a study's page.
#include <algorithm>
#include <cmath>
#include <functional>

#include <fmt/format.h>

#include "io/report/chart.h"
#include "launch/study/study_report.h"

namespace foretoken {

namespace {

constexpr double logarithmic_from = 2.5;  // ratio of the largest to the smallest value
constexpr double gib = 1024.0 * 1024 * 1024;

enum class Along { tokens, seconds };

/// Whether any run was evaluated after step 0.
bool has_validation(const std::vector<PointResult>& results) {
  return std::any_of(results.begin(), results.end(),
                     [](const PointResult& result) { return result.best_loss(0).has_value(); });
}

/// The loss of a depth over the evaluations after step 0.
ChartLine validation_line(const PointResult& result, std::size_t depth, Along along) {
  ChartLine line{.name = result.point->name, .colour = result.index, .marked = true};
  for (const MetricsHistory::Losses& evaluation : result.metrics.evaluations) {
    if (evaluation.step == 0 || depth >= evaluation.depths.size()) continue;
    line.x.push_back(along == Along::tokens ? result.metrics.tokens_at(evaluation.step)
                                            : result.metrics.seconds_at(evaluation.step));
    line.y.push_back(evaluation.depths[depth]);
  }
  return line;
}

/// The training loss of a depth, as a running mean over about a fortieth of the run.
ChartLine training_line(const PointResult& result, std::size_t depth, Along along) {
  ChartLine line{.name = result.point->name, .colour = result.index};
  const double keep = 1 - 1 / std::max(1.0, static_cast<double>(result.metrics.steps.size()) / 40);
  double sum = 0, weight = 0, seconds = 0;
  for (const MetricsHistory::Step& step : result.metrics.steps) {
    seconds += step.milliseconds / 1e3;
    if (depth >= step.depths.size()) continue;
    if (std::isfinite(step.depths[depth])) {
      sum = keep * sum + (1 - keep) * step.depths[depth];
      weight = keep * weight + (1 - keep);
    }
    line.x.push_back(along == Along::tokens ? static_cast<double>(step.tokens_seen) : seconds);
    line.y.push_back(weight > 0 ? sum / weight : NAN);
  }
  return line;
}

class Figures {
 public:
  Figures(const Sweep& sweep, const std::vector<PointResult>& results)
      : sweep_(sweep), results_(results), validation_(has_validation(results)) {}

  std::vector<Figure> all() {
    losses();
    depths();
    acceptance();
    costs();
    return std::move(figures_);
  }

 private:
  ChartLine line(const PointResult& result, std::size_t depth, Along along) const {
    return validation_ ? validation_line(result, depth, along) : training_line(result, depth, along);
  }

  void add_lines(const char* section, const std::string& name, LineChart chart) {
    double low = INFINITY, high = 0;
    std::erase_if(chart.lines, [](const ChartLine& line) { return line.x.empty(); });
    for (const ChartLine& line : chart.lines)
      for (const double value : line.y)
        if (std::isfinite(value)) low = std::min(low, value), high = std::max(high, value);
    if (!(low <= high)) return;
    chart.y.logarithmic = chart.y.logarithmic && low > 0 && high / low > logarithmic_from;
    figures_.push_back({.name = name, .section = section, .svg = to_svg(chart)});
  }

  void loss_figure(const char* section, const std::string& name, const std::string& title, std::size_t depth,
                   Along along, bool training) {
    LineChart chart{.title = title,
                    .x = {.title = along == Along::tokens ? "tokens" : "time in training steps, s"},
                    .y = {.title = "loss, nats per token", .logarithmic = true}};
    for (const PointResult& result : results_)
      chart.lines.push_back(training ? training_line(result, depth, along) : line(result, depth, along));
    add_lines(section, name, std::move(chart));
  }

  void losses() {
    const char* of = validation_ ? "validation" : "training";
    const char* section = "Main loss";
    loss_figure(section, "main_loss_tokens", fmt::format("Main {} loss by tokens", of), 0, Along::tokens,
                false);
    loss_figure(section, "main_loss_time", fmt::format("Main {} loss by time", of), 0, Along::seconds, false);
    loss_change(section);
    if (validation_)
      loss_figure(section, "training_loss_tokens", "Main training loss by tokens, running mean", 0,
                  Along::tokens, true);
  }

  /// The difference that heads make to the main loss: in a chart of the losses the curves are too close
  /// together to show it.
  void loss_change(const char* section) {
    LineChart chart{
        .title = fmt::format("Main {} loss minus the loss at D = 0", validation_ ? "validation" : "training"),
        .x = {.title = "tokens"},
        .y = {.title = "difference, nats per token"}};
    for (const PointResult& result : results_) {
      const PointResult* baseline = baseline_of(result, sweep_, results_);
      if (baseline == nullptr || baseline->point == result.point) continue;
      ChartLine mine = line(result, 0, Along::tokens);
      const ChartLine theirs = line(*baseline, 0, Along::tokens);
      for (std::size_t i = 0; i < mine.x.size(); ++i) {
        const auto same = std::find(theirs.x.begin(), theirs.x.end(), mine.x[i]);
        mine.y[i] = same == theirs.x.end()
                        ? NAN
                        : mine.y[i] - theirs.y[static_cast<std::size_t>(same - theirs.x.begin())];
      }
      chart.lines.push_back(std::move(mine));
    }
    add_lines(section, "main_loss_change", std::move(chart));
  }

  void depths() {
    const char* section = "Loss by depth";
    LineChart chart{.title = validation_ ? "Validation loss by depth, at the end"
                                         : "Training loss by depth, at the last step",
                    .x = {.title = "depth (0: the next token)"},
                    .y = {.title = "loss, nats per token"},
                    .lines = {},
                    .whole_x = true};
    std::size_t deepest = 0;
    for (const PointResult& result : results_) {
      const MetricsHistory::Losses* last = result.last();
      if (last == nullptr) continue;
      ChartLine line{.name = result.point->name, .colour = result.index, .marked = true};
      for (std::size_t k = 0; k < last->depths.size(); ++k) {
        line.x.push_back(static_cast<double>(k));
        line.y.push_back(last->depths[k]);
      }
      deepest = std::max(deepest, last->depths.size() - 1);
      chart.lines.push_back(std::move(line));
    }
    if (deepest == 0) return;
    add_lines(section, "loss_by_depth", std::move(chart));
    for (std::size_t k = 1; k <= deepest; ++k)
      loss_figure(section, fmt::format("mtp{}_loss_tokens", k),
                  fmt::format("Depth {} {} loss by tokens", k, validation_ ? "validation" : "training"), k,
                  Along::tokens, false);
  }

  void acceptance() {
    LineChart chart{.title = "Acceptance by depth",
                    .x = {.title = "depth of the drafted token"},
                    .y = {.title = "share of drafts accepted"},
                    .lines = {},
                    .whole_x = true};
    for (const PointResult& result : results_) {
      const MetricsHistory::Losses* last = result.last_acceptance();
      if (last == nullptr) continue;
      ChartLine line{.name = result.point->name, .colour = result.index, .marked = true};
      for (std::size_t k = 0; k < last->acceptance.size(); ++k) {
        line.x.push_back(static_cast<double>(k + 1));
        line.y.push_back(last->acceptance[k]);
      }
      chart.lines.push_back(std::move(line));
    }
    add_lines("Acceptance", "acceptance", std::move(chart));
    bars(
        "Acceptance", "accepted_length", "Expected accepted length",
        "tokens per round of speculative decoding", std::nullopt,
        [](const PointResult& result) -> std::optional<double> {
          const MetricsHistory::Losses* last = result.last_acceptance();
          return last == nullptr ? std::nullopt : last->accepted_length;
        },
        [](double value, const PointResult&) { return fmt::format("{:.2f}", value); });
  }

  using Value = std::function<std::optional<double>(const PointResult&)>;
  using Label = std::function<std::string(double, const PointResult&)>;
  void bars(const char* section, const char* name, const char* title, const char* axis,
            std::optional<double> reference, const Value& value, const Label& label) {
    BarChart chart{.title = title, .axis = axis, .bars = {}, .reference = reference};
    for (const PointResult& result : results_)
      if (const std::optional<double> number = value(result); number && std::isfinite(*number))
        chart.bars.push_back({.name = result.point->name,
                              .colour = result.index,
                              .value = *number,
                              .label = label(*number, result)});
    if (!chart.bars.empty()) figures_.push_back({.name = name, .section = section, .svg = to_svg(chart)});
  }

  /// The point's value divided by the value of its baseline.
  std::optional<double> ratio(const PointResult& result, const Value& of) const {
    const PointResult* baseline = baseline_of(result, sweep_, results_);
    if (baseline == nullptr) return std::nullopt;
    const std::optional<double> mine = of(result), theirs = of(*baseline);
    if (!mine || !theirs || !(*theirs > 0)) return std::nullopt;
    return *mine / *theirs;
  }

  void costs() {
    const char* section = "Cost and supervision";
    const Value targets = [](const PointResult& result) {
      return 1.0 + static_cast<double>(result.depths());
    };
    const Value speed = [](const PointResult& result) -> std::optional<double> {
      return result.tokens_per_second > 0 ? std::optional(result.tokens_per_second) : std::nullopt;
    };
    const Value memory = [](const PointResult& result) -> std::optional<double> {
      return result.metrics.peak_memory_bytes;
    };
    bars(
        section, "throughput", "Throughput relative to D = 0", "tokens/s, divided by tokens/s at D = 0", 1.0,
        [&](const PointResult& result) { return ratio(result, speed); },
        [](double value, const PointResult& result) {
          return fmt::format("{:.2f} ({} tok/s)", value, short_number(std::round(result.tokens_per_second)));
        });
    bars(
        section, "memory", "Peak memory relative to D = 0",
        "largest memory of a rank, divided by the memory at D = 0", 1.0,
        [&](const PointResult& result) { return ratio(result, memory); },
        [&](double value, const PointResult& result) {
          return fmt::format("{:.2f} ({:.2f} GiB)", value, *memory(result) / gib);
        });
    bars(section, "targets", "Supervision signals per token", "targets of a position: 1 + D", std::nullopt,
         targets, [](double value, const PointResult&) { return fmt::format("{:.0f}", value); });
    bars(
        section, "targets_per_second", "Supervision signals per second", "targets/s: (1 + D) · tokens/s",
        std::nullopt,
        [&](const PointResult& result) -> std::optional<double> {
          const std::optional<double> rate = speed(result);
          return rate ? std::optional(*targets(result) * *rate) : std::nullopt;
        },
        [](double value, const PointResult&) { return short_number(std::round(value)); });
  }

  const Sweep& sweep_;
  const std::vector<PointResult>& results_;
  bool validation_;
  std::vector<Figure> figures_;
};

}  // namespace

std::vector<Figure> study_figures(const Sweep& sweep, const std::vector<PointResult>& results) {
  return Figures(sweep, results).all();
}

}  // namespace foretoken

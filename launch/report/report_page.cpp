#include "launch/report/report_page.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <functional>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "io/report/chart.h"
#include "io/report/metrics.h"
#include "io/report/page.h"
#include "io/report/svg.h"
#include "runtime/median.h"

namespace foretoken {

namespace {

using Step = MetricsHistory::Step;
constexpr std::size_t most_rows = 32;  // ranks of a timeline
constexpr double logarithmic_from = 2.5;
// Palette indices of timelines and shares.
constexpr int forward_colour = 1, backward_colour = 2, weight_colour = 3, optimizer_colour = 4,
              communication_colour = 6, checkpoint_colour = 5;

std::string number(std::optional<double> value, int digits) {
  return value && std::isfinite(*value) ? fmt::format("{:.{}f}", *value, digits) : "–";
}

/// The median of a value over the steps after the first fifth, which are slower; empty if no step has it.
std::optional<double> median_of(const ReportedRun& run, const std::function<double(const Step&)>& value) {
  std::vector<double> values;
  const auto& steps = run.metrics.steps;
  for (std::size_t i = steps.size() / 5; i < steps.size(); ++i)
    if (const double of = value(steps[i]); std::isfinite(of)) values.push_back(of);
  if (values.empty()) return std::nullopt;
  return median(std::move(values));
}

/// The share of a kind of time in the measured steps after the first fifth; empty if there are none.
std::optional<double> share_of(const ReportedRun& run, std::size_t kind) {
  double of_kind = 0, all = 0;
  const auto& steps = run.metrics.steps;
  for (std::size_t i = steps.size() / 5; i < steps.size(); ++i)
    if (!steps[i].shares.empty() && std::isfinite(steps[i].shares[kind])) {
      of_kind += steps[i].milliseconds * steps[i].shares[kind];
      all += steps[i].milliseconds;
    }
  return all > 0 ? std::optional(of_kind / all) : std::nullopt;
}

double memory_of(const Step& step) {
  return step.memory_bytes ? static_cast<double>(*step.memory_bytes) / (1 << 30) : NAN;
}

/// The part of the time of steps and saves in which training waited for saves, after the first fifth of the
/// steps. The wait after the last step is not in it.
double checkpoint_share(const ReportedRun& run) {
  double waited = 0, all = 0;
  const auto& steps = run.metrics.steps;
  for (std::size_t i = steps.size() / 5; i < steps.size(); ++i) {
    waited += steps[i].checkpoint_seconds;
    all += steps[i].checkpoint_seconds + steps[i].milliseconds / 1e3;
  }
  return all > 0 ? waited / all : 0;
}

class RunFigures {
 public:
  explicit RunFigures(const std::vector<ReportedRun>& runs) : runs_(runs) {}

  std::vector<PageFigure> all() {
    losses();
    lines("Optimizer", "Learning rate", "", [](const Step& step) { return step.lr; });
    lines(
        "Optimizer", "Gradient norm before clipping", "norm", [](const Step& step) { return step.grad_norm; },
        true);
    acceptance();
    lines("Speed and memory", "Throughput", "tokens/s",
          [](const Step& step) { return step.tokens_per_second; });
    lines("Speed and memory", "Model TFLOP/s per rank", "TFLOP/s",
          [](const Step& step) { return step.tflops_per_rank; });
    lines("Speed and memory", "Largest memory of a rank, GiB", "", memory_of);
    shares();
    timelines();
    return std::move(figures_);
  }

 private:
  void add(const char* section, LineChart chart) {
    double low = INFINITY, high = -INFINITY;
    std::erase_if(chart.lines, [](const ChartLine& line) {
      return std::none_of(line.y.begin(), line.y.end(), [](double y) { return std::isfinite(y); });
    });
    if (chart.lines.empty()) return;
    for (const ChartLine& line : chart.lines)
      for (const double y : line.y)
        if (std::isfinite(y)) low = std::min(low, y), high = std::max(high, y);
    chart.y.logarithmic = chart.y.logarithmic && low > 0 && high / low > logarithmic_from;
    figures_.push_back({.section = section, .svg = to_svg(chart)});
  }

  /// A value of the steps by step, one line per run. Steps that did not measure it are left out.
  void lines(const char* section, const std::string& title, const std::string& unit,
             const std::function<double(const Step&)>& value, bool logarithmic = false) {
    LineChart chart{.title = title, .x = {.title = "step"}, .y = {.title = unit, .logarithmic = logarithmic}};
    for (std::size_t i = 0; i < runs_.size(); ++i) {
      ChartLine line{.name = runs_[i].name, .colour = static_cast<int>(i)};
      for (const Step& step : runs_[i].metrics.steps) {
        const double y = value(step);
        if (!std::isfinite(y)) continue;
        line.x.push_back(static_cast<double>(step.step));
        line.y.push_back(y);
      }
      line.marked = line.x.size() < 40;
      chart.lines.push_back(std::move(line));
    }
    add(section, std::move(chart));
  }

  void evaluations(const std::string& title, std::size_t depth) {
    LineChart chart{
        .title = title, .x = {.title = "step"}, .y = {.title = "loss, nats per token", .logarithmic = true}};
    for (std::size_t i = 0; i < runs_.size(); ++i) {
      ChartLine line{.name = runs_[i].name, .colour = static_cast<int>(i), .marked = true};
      for (const MetricsHistory::Losses& evaluation : runs_[i].metrics.evaluations)
        if (depth < evaluation.depths.size()) {
          line.x.push_back(static_cast<double>(evaluation.step));
          line.y.push_back(evaluation.depths[depth]);
        }
      chart.lines.push_back(std::move(line));
    }
    add("Losses", std::move(chart));
  }

  void losses() {
    std::size_t depths = 0;
    for (const ReportedRun& run : runs_)
      for (const Step& step : run.metrics.steps) depths = std::max(depths, step.depths.size());
    for (std::size_t depth = 0; depth < depths; ++depth) {
      const std::string of = depth == 0 ? "Main" : fmt::format("Depth {}", depth);
      lines(
          "Losses", of + " training loss", "loss, nats per token",
          [depth](const Step& step) { return depth < step.depths.size() ? step.depths[depth] : NAN; }, true);
      evaluations(of + " loss in evaluations", depth);
    }
  }

  /// Values of evaluations, or else of the steps that measured the heads; `value` is NaN where there is none.
  void acceptance_figure(const std::string& title, const std::string& unit,
                         const std::function<double(const MetricsHistory::Losses&)>& value) {
    LineChart chart{.title = title, .x = {.title = "step"}, .y = {.title = unit}};
    for (std::size_t i = 0; i < runs_.size(); ++i) {
      ChartLine line{.name = runs_[i].name, .colour = static_cast<int>(i), .marked = true};
      const auto take = [&](const MetricsHistory::Losses& from) {
        const double y = value(from);
        if (!std::isfinite(y)) return;
        line.x.push_back(static_cast<double>(from.step));
        line.y.push_back(y);
      };
      for (const MetricsHistory::Losses& evaluation : runs_[i].metrics.evaluations) take(evaluation);
      if (line.x.empty())
        for (const Step& step : runs_[i].metrics.steps) take(step);
      chart.lines.push_back(std::move(line));
    }
    add("Acceptance", std::move(chart));
  }

  void acceptance() {
    acceptance_figure("Expected accepted length", "tokens a round",
                      [](const MetricsHistory::Losses& of) { return of.accepted_length.value_or(NAN); });
    std::size_t depths = 0;
    for (const ReportedRun& run : runs_)
      if (run.config) depths = std::max(depths, static_cast<std::size_t>(run.config->mtp.depths));
    for (std::size_t k = 0; k < depths; ++k)
      acceptance_figure(fmt::format("Acceptance of drafts up to depth {}", k + 1), "share of positions",
                        [k](const MetricsHistory::Losses& of) {
                          return k < of.acceptance.size() ? of.acceptance[k] : NAN;
                        });
  }

  void shares() {
    static constexpr std::array<int, 5> colours = {forward_colour, backward_colour, communication_colour,
                                                   optimizer_colour, weight_colour};
    SpanChart chart{.title = "Where the time goes",
                    .axis = "% of the time of steps and waits for checkpoints",
                    .length = 100,
                    .legend = {{"compute", colours[0]},
                               {"bubble", colours[1]},
                               {"exposed communication", colours[2]},
                               {"optimizer", colours[3]},
                               {"data", colours[4]},
                               {"checkpoint", checkpoint_colour}},
                    .notes = {"Means over the ranks and the measured steps after the first fifth.",
                              "The rest is the host's work between them."}};
    for (const ReportedRun& run : runs_) {
      SpanChart::Row row{.name = run.name, .spans = {}};
      double at = 0;
      const auto add_part = [&](double share, int colour) {
        row.spans.push_back({.begin = at,
                             .end = at + 100 * share,
                             .colour = colour,
                             .label = fmt::format("{:.1f}", 100 * share)});
        at += 100 * share;
      };
      const double saving = checkpoint_share(run);
      for (std::size_t kind = 0; kind < colours.size(); ++kind)
        if (const auto share = share_of(run, kind)) add_part((1 - saving) * *share, colours[kind]);
      if (row.spans.empty()) continue;
      if (saving > 0) add_part(saving, checkpoint_colour);
      chart.rows.push_back(std::move(row));
    }
    if (!chart.rows.empty()) figures_.push_back({.section = "Time", .svg = to_svg(chart)});
  }

  static int colour_of(const TimelineSpan& span) {
    if (span.kind != TimelineSpan::Kind::compute) return communication_colour;
    if (!is_action(span)) return optimizer_colour;
    const char kind = span.name[std::min(span.name.size() - 1, span.name.find_first_not_of("0123456789"))];
    return kind == 'F' ? forward_colour : kind == 'W' ? weight_colour : backward_colour;
  }

  static SpanChart timeline(const std::string& title, double length) {
    return {.title = title,
            .axis = "ms",
            .length = 1e3 * length,
            .rows = {},
            .legend = {{"forward", forward_colour},
                       {"backward", backward_colour},
                       {"weight gradients", weight_colour},
                       {"optimizer", optimizer_colour},
                       {"communication", communication_colour}}};
  }

  /// A run's traced step beside the simulated one, on axes of the same length.
  void timelines() {
    for (const ReportedRun& run : runs_) {
      if (run.trace.empty()) continue;
      double begin = INFINITY, end = 0;
      for (const TracedRank& rank : run.trace)
        for (const TimelineSpan& span : rank.spans) {
          begin = std::min(begin, span.begin);
          end = std::max(end, span.end);
        }
      double length = end - begin;
      if (run.simulated) length = std::max(length, run.simulated->timeline.makespan());
      SpanChart traced =
          timeline(fmt::format("{}: step {} as it was traced", run.name, run.traced_step), length);
      DrawnRanks drawn = drawn_ranks(run.trace, run.traced_pp, most_rows);
      for (const std::size_t index : drawn.ranks) {
        const TracedRank& rank = run.trace[index];
        SpanChart::Row row{.name = fmt::format("rank {}", rank.rank), .spans = {}};
        for (const TimelineSpan& span : rank.spans)
          if (span.kind == TimelineSpan::Kind::compute)  // communication runs beside it, in other lanes
            row.spans.push_back({.begin = 1e3 * (span.begin - begin),
                                 .end = 1e3 * (span.end - begin),
                                 .colour = colour_of(span),
                                 .label = is_action(span) ? span.name : ""});
        traced.rows.push_back(std::move(row));
      }
      traced.notes = std::move(drawn.notes);
      add(std::move(traced));
      if (run.simulated) simulated(run, length);
    }
  }

  /// The assumptions of a simulated step.
  static std::vector<std::string> assumptions(const ReportedRun& run) {
    std::vector<std::string> notes{"Actions: estimated costs of layers, scaled to the trace."};
    const MessageTimes& messages = run.simulated->messages;
    std::string times;
    const auto add_time = [&](const std::optional<double>& seconds, const char* where) {
      if (seconds) times += fmt::format("{}{:.3f} ms {}", times.empty() ? "" : ", ", 1e3 * *seconds, where);
    };
    add_time(messages.inside, "inside a node");
    add_time(messages.between, "between nodes");
    if (run.traced_pp > 1)
      notes.push_back(times.empty() ? "Messages: no time, because no traced action waited for one."
                                    : "Messages: " + times + ", medians of the trace.");
    notes.emplace_back("Left out: reductions, optimizer and the host's work.");
    return notes;
  }

  void simulated(const ReportedRun& run, double length) {
    const SimulatedTimeline& step = run.simulated->timeline;
    SpanChart chart = timeline(
        fmt::format("{}: the step as simulated, bubble {:.1f} %", run.name, 100 * step.bubble()), length);
    for (const std::size_t rank : spaced_ranks(step.ranks.size(), most_rows)) {
      SpanChart::Row row{.name = fmt::format("rank {}", rank), .spans = {}};
      for (const Span& span : step.ranks[rank]) {
        const TimelineSpan named{.name = to_string(span.action)};
        row.spans.push_back({.begin = 1e3 * span.start,
                             .end = 1e3 * span.end,
                             .colour = colour_of(named),
                             .label = named.name});
      }
      chart.rows.push_back(std::move(row));
    }
    chart.notes = assumptions(run);
    if (chart.rows.size() < step.ranks.size())
      chart.notes.push_back(
          fmt::format("{} of {} ranks are drawn, evenly spaced.", most_rows, step.ranks.size()));
    add(std::move(chart));
  }

  /// Adds a timeline, with the colours that it has in its legend.
  void add(SpanChart chart) {
    std::erase_if(chart.legend, [&](const auto& entry) {
      return std::none_of(chart.rows.begin(), chart.rows.end(), [&](const SpanChart::Row& row) {
        return std::any_of(row.spans.begin(), row.spans.end(),
                           [&](const SpanChart::Span& span) { return span.colour == entry.second; });
      });
    });
    figures_.push_back({.section = "Timeline", .svg = to_svg(chart)});
  }

  const std::vector<ReportedRun>& runs_;
  std::vector<PageFigure> figures_;
};

std::string layout_text(const ReportedRun& run) {
  if (!run.config) return "–";
  const ParallelConfig& parallel = run.config->parallel;
  std::string text = fmt::format("pp {}", parallel.pp);
  if (parallel.dp > 0) text += fmt::format(" × dp {}", parallel.dp);
  if (parallel.virtual_stages > 1) text += fmt::format(" × v {}", parallel.virtual_stages);
  return text + ", " + parallel.schedule;
}

std::string runs_table(const std::vector<ReportedRun>& runs) {
  std::vector<std::vector<PageCell>> rows;
  for (const ReportedRun& run : runs) {
    const auto& steps = run.metrics.steps;
    const auto& evaluations = run.metrics.evaluations;
    const auto percent = [&](std::size_t kind) {
      const auto share = share_of(run, kind);
      return share ? fmt::format("{:.1f} %", 100 * *share) : "–";
    };
    const auto memory = median_of(run, memory_of);
    rows.push_back(
        {{.text = run.name},
         {.text = layout_text(run)},
         {.text = steps.empty() ? "–"
                  : run.config  ? fmt::format("{} of {}", steps.back().step, run.config->train.steps)
                                : std::to_string(steps.back().step)},
         {.text = steps.empty() ? "–" : short_number(static_cast<double>(steps.back().tokens_seen))},
         {.text = steps.empty() ? "–" : number(steps.back().depths[0], 4)},
         {.text = evaluations.empty() ? "–" : number(evaluations.back().depths[0], 4)},
         {.text = evaluations.empty() ? "–" : number(evaluations.back().accepted_length, 2)},
         {.text = number(median_of(run, [](const Step& step) { return step.tokens_per_second; }), 0)},
         {.text = number(median_of(run, [](const Step& step) { return step.tflops_per_rank; }), 3)},
         {.text = percent(1)},
         {.text = percent(2)},
         {.text = steps.empty() ? "–" : fmt::format("{:.1f} %", 100 * checkpoint_share(run))},
         {.text = memory ? fmt::format("{:.2f} GiB", *memory) : "–"}});
  }
  return html_table({"run", "layout", "step", "tokens", "main loss", "held out", "accepted", "tokens/s",
                     "TFLOP/s a rank", "bubble", "exposed comm.", "checkpoint", "memory"},
                    rows);
}

}  // namespace

std::string run_page(const std::vector<ReportedRun>& runs) {
  std::string body =
      fmt::format("<p>{:%Y-%m-%d %H:%M} UTC</p>\n<h2>Runs</h2>\n", fmt::gmtime(std::time(nullptr)));
  body += runs_table(runs);
  body +=
      "<p>Losses are nats per token, of the last training step and of the last evaluation. Speed and memory "
      "are medians, shares of time are means over the steps after the first fifth. Bubble: in no action, "
      "between the first and the last action of any rank. Exposed communication: after it, and not "
      "computing. "
      "Checkpoint: the part of the time of steps and saves in which training waited for a save.</p>\n";
  std::string missing;
  for (const ReportedRun& run : runs)
    for (const std::string& what : run.missing)
      missing += fmt::format("<li>{}: {}</li>\n", xml_text(run.name), xml_text(what));
  if (!missing.empty()) body += "<h2>Missing</h2>\n<ul>\n" + missing + "</ul>\n";
  body += html_figures(RunFigures(runs).all());
  const std::string heading =
      runs.size() == 1 ? runs[0].name : fmt::format("{} and {} more", runs[0].name, runs.size() - 1);
  return html_page(heading, heading + ": a report by Foretoken", body);
}

}  // namespace foretoken

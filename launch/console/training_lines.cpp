#include "launch/console/training_lines.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "launch/console/progress_bar.h"
#include "launch/console/terminal.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

/// The value with this number of significant digits, trailing zeros included, so that columns align.
std::string significant(double value, int digits) {
  std::string text = fmt::format("{:#.{}g}", value, digits);
  if (text.back() == '.') text.pop_back();
  return text;
}

constexpr double unusual_z = 5;
constexpr int widest_bar = 40;

/// A column of a line. The column with the highest `expendable` is left out first; 0: never left out.
struct Column {
  std::string text;
  int expendable = 0;
};

std::string joined(const std::vector<Column>& columns) {
  std::string line;
  for (const Column& column : columns) line += (line.empty() ? "" : "  ") + column.text;
  return line;
}

std::string fitted(std::vector<Column> columns, int width) {
  while (width_of(joined(columns)) > width) {
    const auto first = std::max_element(columns.begin(), columns.end(), [](const Column& a, const Column& b) {
      return a.expendable < b.expendable;
    });
    if (first->expendable == 0) break;
    columns.erase(first);
  }
  return joined(columns);
}

std::string duration_text(double milliseconds) {
  if (milliseconds < 10) return fmt::format("{:.2f} ms", milliseconds);
  if (milliseconds < 10000) return fmt::format("{:.0f} ms", milliseconds);
  return fmt::format("{:.1f} s", milliseconds / 1000);
}

std::string flops_text(double tflops) {
  return tflops >= 0.1 ? fmt::format("{:>5.1f} TFLOP/s", tflops)
                       : fmt::format("{:>5.2f} GFLOP/s", 1e3 * tflops);
}

bool is_unusual(const StepMetrics& metrics) {
  return std::abs(metrics.loss_z.value_or(0)) > unusual_z ||
         std::abs(metrics.grad_norm_z.value_or(0)) > unusual_z;
}

std::string z_text(const std::optional<double>& z) {
  return z ? fmt::format("{:>+5.1f}", *z) : fmt::format("{:>5}", "-");
}

/// Whether the accepted length rounds to more than "1.00 tokens a round".
bool accepts_any(const HeadsMetrics& heads) {
  return heads.accepted_length >= 1.005;
}

std::string share_text(double share) {
  return std::isnan(share) ? "-" : fmt::format("{:.3f}", share);
}

/// Pads every row's cells to the widest of their column; the first column to the left, others to the right.
std::string table_text(const std::vector<std::vector<std::string>>& rows) {
  std::vector<int> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    if (!text.empty()) text += '\n';
    for (std::size_t i = 0; i < row.size(); ++i)
      text += i == 0           ? fmt::format("{:<{}}", row[i], widths[i])
              : row[i].empty() ? ""
                               : fmt::format("  {:>{}}", row[i], widths[i]);
  }
  return text;
}

}  // namespace

std::string loss_text(double loss) {
  if (!std::isfinite(loss)) return fmt::format("{:>6}", loss);
  const double size = std::abs(loss);
  return fmt::format("{:>6.{}f}", loss, size < 10 ? 4 : size < 100 ? 3 : size < 1000 ? 2 : 0);
}

std::string step_line(const StepMetrics& metrics, int columns) {
  const auto steps = std::to_string(metrics.steps);
  std::vector<Column> line{{fmt::format("step {:>{}}/{}", metrics.step, steps.size(), steps)},
                           {"loss " + loss_text(metrics.loss)}};
  if (metrics.depth_losses.size() > 1) {
    line.push_back({"main " + loss_text(metrics.depth_losses.front()), 1});
    std::string depths = "mtp";
    for (std::size_t k = 1; k < metrics.depth_losses.size(); ++k) {
      const double loss = metrics.depth_losses[k];
      // If no microbatch trained the depth, its loss is NaN but the objective is finite.
      const bool untrained = std::isnan(loss) && std::isfinite(metrics.loss);
      depths += fmt::format(" {:>6}", untrained ? "-" : loss_text(loss));
    }
    line.push_back({depths, 2});
  }
  std::string norm = fmt::format("grad {:>8}", significant(metrics.grad_norm, 3));
  if (metrics.heads_grad_norm) norm += fmt::format(" heads {:>8}", significant(*metrics.heads_grad_norm, 3));
  line.push_back({norm, 3});
  line.push_back({fmt::format("lr {:.1e}", metrics.lr), 6});
  line.push_back({fmt::format("{:>7}", duration_text(metrics.milliseconds)), 7});
  line.push_back({fmt::format("{:>7.0f} tok/s", metrics.tokens_per_second)});
  if (metrics.tflops_per_rank > 0) line.push_back({flops_text(metrics.tflops_per_rank), 5});
  if (metrics.times) {
    const StepTimes& times = *metrics.times;
    line.push_back({fmt::format("bubble {:>4.1f} %", 100 * times.bubble), 4});
    line.push_back({fmt::format("exposed {:>4.1f} %", 100 * times.exposed_communication), 8});
    line.push_back({fmt::format("slowest {} {:+.0f} %", times.slowest_rank, 100 * times.slowest_excess), 10});
    line.push_back({format_bytes(static_cast<double>(
                        *std::max_element(times.memory_bytes.begin(), times.memory_bytes.end()))),
                    9});
  }
  if (metrics.skipped) line.push_back({"skipped"});
  if (metrics.loss_z || metrics.grad_norm_z)
    line.push_back({fmt::format("z {} {}", z_text(metrics.loss_z), z_text(metrics.grad_norm_z)),
                    is_unusual(metrics) ? 0 : 11});
  return fitted(std::move(line), columns);
}

bool is_notable(const StepMetrics& metrics) {
  return metrics.skipped || is_unusual(metrics) || metrics.heads;
}

std::string heads_table(const StepMetrics& metrics) {
  const HeadsMetrics& heads = *metrics.heads;
  const bool accepts = accepts_any(heads), gradients = !heads.trunk_norms.empty();
  if (!accepts && !gradients) return fmt::format("heads at step {}: no draft is accepted", metrics.step);
  std::vector<std::vector<std::string>> rows{{fmt::format("heads at step {}", metrics.step)}};
  if (accepts) rows[0].emplace_back("acceptance");
  if (gradients) rows[0].insert(rows[0].end(), {"trunk gradient", "cosine"});
  for (std::size_t k = 1; k <= heads.acceptance.size(); ++k) {
    auto& row = rows.emplace_back(std::vector<std::string>{"  " + depth_name(k)});
    if (accepts) row.push_back(share_text(heads.acceptance[k - 1]));
    if (gradients)
      row.insert(row.end(), {fmt::format("{:.3f}", heads.trunk_norms[k] / heads.trunk_norms[0]),
                             fmt::format("{:.2f}", heads.trunk_cosines[k - 1])});
  }
  std::string text = table_text(rows);
  if (accepts) text += fmt::format("\n  {:.2f} tokens a round", heads.accepted_length);
  return text;
}

std::string evaluation_table(const EvaluationMetrics& metrics) {
  const bool accepts = metrics.heads && accepts_any(*metrics.heads);
  std::vector<std::vector<std::string>> rows{
      {fmt::format("evaluation at step {}", metrics.step), "loss", "perplexity"}};
  if (accepts) rows[0].emplace_back("acceptance");
  for (std::size_t k = 0; k < metrics.depth_losses.size(); ++k) {
    const double loss = metrics.depth_losses[k];
    auto& row = rows.emplace_back(
        std::vector<std::string>{"  " + depth_name(k), loss_text(loss), significant(std::exp(loss), 4)});
    if (accepts && k > 0) row.push_back(share_text(metrics.heads->acceptance.at(k - 1)));
  }
  std::string text = table_text(rows) + "\n  ";
  if (const std::optional<double> bits = metrics.bits_per_byte())
    text += fmt::format("{:.3f} bits/byte, ", *bits);
  if (accepts) text += fmt::format("{:.2f} tokens a round, ", metrics.heads->accepted_length);
  return text + fmt::format("{} in {}", counted(metrics.rows, "row"), duration_text(metrics.milliseconds));
}

std::string training_progress(std::int64_t step, std::int64_t steps, double seconds_left, int columns) {
  const double fraction = steps > 0 ? static_cast<double>(step) / static_cast<double>(steps) : 1;
  const std::string label = fmt::format("step {}/{}", step, steps);
  const std::string figures =
      fmt::format("{:3} %  {} left", static_cast<int>(fraction * 100), duration_in_words(seconds_left));
  const int room = columns - static_cast<int>(label.size() + figures.size()) - 6;  // brackets and gaps
  if (room < 4) return label;
  return fmt::format("{}  {}  {}", label, bar_text(fraction, std::min(widest_bar, room)), figures);
}

}  // namespace foretoken

#include "io/metrics.h"

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "runtime/error.h"

namespace foretoken {
namespace {

using Json = nlohmann::ordered_json;

std::string depth_name(std::size_t depth) {
  return depth == 0 ? "main" : fmt::format("mtp{}", depth);
}

void put(Json& object, const std::string& name, double value) {
  if (std::isfinite(value)) {
    object[name] = value;
    return;
  }
  object[name] = nullptr;
  object[name + "_text"] = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

void put_losses(Json& object, double loss, const std::vector<double>& depth_losses) {
  put(object, "loss", loss);
  for (std::size_t depth = 0; depth < depth_losses.size(); ++depth)
    put(object, depth_name(depth) + "_loss", depth_losses[depth]);
}

void put_heads(Json& object, const std::optional<HeadsMetrics>& heads) {
  if (!heads) return;
  const auto put_all = [&](const std::vector<double>& values, std::size_t first_depth, const char* what) {
    for (std::size_t i = 0; i < values.size(); ++i)
      put(object, fmt::format("{}_{}", depth_name(first_depth + i), what), values[i]);
  };
  put_all(heads->acceptance, 1, "acceptance");
  put(object, "accepted_length", heads->accepted_length);
  put_all(heads->trunk_norms, 0, "trunk_norm");
  put_all(heads->trunk_cosines, 1, "trunk_cosine");
}

void put_time(Json& object) {
  object["time"] = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

std::string losses_in_words(double loss, const std::vector<double>& depth_losses) {
  std::string text = fmt::format("loss {:.4f} |", loss);
  for (std::size_t depth = 0; depth < depth_losses.size(); ++depth)
    text += fmt::format(" {} {:.4f}", depth_name(depth), depth_losses[depth]);
  return text;
}

/// Begins with " | ", or is empty.
std::string heads_in_words(const std::optional<HeadsMetrics>& heads) {
  if (!heads) return "";
  std::string text = fmt::format(" | accepted {:.2f} tokens ({:.3f})", heads->accepted_length,
                                 fmt::join(heads->acceptance, " "));
  if (!heads->trunk_norms.empty()) text += " | at the trunk";
  for (std::size_t k = 1; k < heads->trunk_norms.size(); ++k)
    text += fmt::format(" {} {:.2f} cos {:.2f}", depth_name(k), heads->trunk_norms[k] / heads->trunk_norms[0],
                        heads->trunk_cosines[k - 1]);
  return text;
}

std::string milliseconds_in_words(double milliseconds) {
  return fmt::format("{:.{}f} ms", milliseconds, milliseconds < 10 ? 2 : 0);
}

/// The step of a whole line that one of our sinks wrote.
std::optional<std::int64_t> step_of(const std::string& line) {
  const Json object = Json::parse(line, nullptr, false);
  if (!object.is_object() || !object.contains("step") || !object["step"].is_number_integer())
    return std::nullopt;
  return object["step"].get<std::int64_t>();
}

void close_checked(std::ofstream& file, const std::string& path) {
  file.close();
  if (!file) throw DataError("metrics: {}: cannot be written: {}", path, std::strerror(errno));
}

}  // namespace

std::string duration_in_words(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e12) return "?";
  const auto total = static_cast<std::int64_t>(std::llround(seconds));
  if (total < 60) return fmt::format("{}s", total);
  if (total < 3600) return fmt::format("{}m {:02}s", total / 60, total % 60);
  if (total < 86400) return fmt::format("{}h {:02}m", total / 3600, total / 60 % 60);
  return fmt::format("{}d {:02}h", total / 86400, total / 3600 % 24);
}

std::string console_line(const StepMetrics& metrics) {
  const std::string heads =
      metrics.heads_grad_norm ? fmt::format(" heads {:.2f}", *metrics.heads_grad_norm) : "";
  return fmt::format("step {}/{} | {}{} | grad {:.2f}{} | lr {:.1e} | {} | {:.0f} tok/s | {} left",
                     metrics.step, metrics.steps, losses_in_words(metrics.loss, metrics.depth_losses),
                     heads_in_words(metrics.heads), metrics.grad_norm, heads, metrics.lr,
                     milliseconds_in_words(metrics.milliseconds), metrics.tokens_per_second,
                     duration_in_words(metrics.seconds_left));
}

std::string console_line(const EvaluationMetrics& metrics) {
  return fmt::format("evaluation at step {} | {}{} | {} rows | {}", metrics.step,
                     losses_in_words(metrics.loss, metrics.depth_losses), heads_in_words(metrics.heads),
                     metrics.rows, milliseconds_in_words(metrics.milliseconds));
}

MetricsSink::MetricsSink(const std::string& path, std::function<void(const std::string&)> warn)
    : path_(path), file_(path, std::ios::app), warn_(std::move(warn)) {
  if (!file_) throw DataError("metrics: {}: cannot be opened: {}", path, std::strerror(errno));
}

void MetricsSink::append(const std::string& line) {
  file_.clear();
  errno = 0;
  file_ << line << '\n' << std::flush;
  if (file_ || warned_) return;
  warned_ = true;
  warn_(fmt::format("metrics: {}: cannot be written: {}; training goes on, this is said once", path_,
                    std::strerror(errno)));
}

void MetricsSink::write(const StepMetrics& metrics) {
  Json object;
  object["kind"] = "step";
  object["step"] = metrics.step;
  object["steps"] = metrics.steps;
  put_losses(object, metrics.loss, metrics.depth_losses);
  for (std::size_t depth = 1; depth < metrics.weights.size(); ++depth)
    put(object, depth_name(depth) + "_weight", metrics.weights[depth]);
  put_heads(object, metrics.heads);
  put(object, "grad_norm", metrics.grad_norm);
  if (metrics.heads_grad_norm) put(object, "heads_grad_norm", *metrics.heads_grad_norm);
  put(object, "lr", metrics.lr);
  put(object, "milliseconds", metrics.milliseconds);
  put(object, "tokens_per_second", metrics.tokens_per_second);
  put(object, "seconds_left", metrics.seconds_left);
  object["tokens_seen"] = metrics.tokens_seen;
  object["samples_seen"] = metrics.samples_seen;
  put_time(object);
  append(object.dump());
}

void MetricsSink::write(const EvaluationMetrics& metrics) {
  Json object;
  object["kind"] = "evaluation";
  object["step"] = metrics.step;
  put_losses(object, metrics.loss, metrics.depth_losses);
  put_heads(object, metrics.heads);
  object["rows"] = metrics.rows;
  put(object, "milliseconds", metrics.milliseconds);
  put_time(object);
  append(object.dump());
}

void MetricsSink::write(const EndMetrics& metrics) {
  Json object;
  object["kind"] = "end";
  object["step"] = metrics.step;
  put(object, "seconds", metrics.seconds);
  object["peak_memory_bytes"] = metrics.peak_memory_bytes;
  put_time(object);
  append(object.dump());
}

std::int64_t truncate_metrics(const std::string& path, std::int64_t step) {
  std::ifstream file(path);
  if (!file) {
    if (errno == ENOENT) return 0;
    throw DataError("metrics: {}: cannot be read: {}", path, std::strerror(errno));
  }
  const std::string kept_path = path + ".tmp";
  const std::string superseded_path = path + ".superseded";
  std::ofstream kept(kept_path, std::ios::trunc);
  std::ofstream superseded(superseded_path, std::ios::app);
  std::int64_t moved = 0;
  for (std::string line; std::getline(file, line);) {
    // A last line without its newline is torn even where it happens to parse: more might have followed.
    const std::optional<std::int64_t> of = file.eof() ? std::nullopt : step_of(line);
    const bool stays = of && *of <= step;
    (stays ? kept : superseded) << line << '\n';
    moved += !stays;
  }
  // What is moved away reaches its new place before it leaves the old one.
  close_checked(superseded, superseded_path);
  close_checked(kept, kept_path);
  if (moved == 0)
    std::filesystem::remove(kept_path);
  else
    std::filesystem::rename(kept_path, path);
  std::error_code ignored;
  if (std::filesystem::file_size(superseded_path, ignored) == 0) std::filesystem::remove(superseded_path);
  return moved;
}

}  // namespace foretoken

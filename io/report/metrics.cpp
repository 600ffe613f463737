#include "io/report/metrics.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <numbers>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "io/files/bounded_json.h"
#include "io/files/file_reader.h"
#include "io/files/sealed_text.h"
#include "io/report/metrics_json.h"
#include "runtime/error.h"

namespace foretoken {
namespace {

using Json = nlohmann::ordered_json;

std::string milliseconds_in_words(double milliseconds) {
  return fmt::format("{:.{}f} ms", milliseconds, milliseconds < 10 ? 2 : 0);
}

/// The order of lines in a run: a step precedes the evaluations after it.
using LineKey = std::pair<std::int64_t, std::string>;

/// The position of a line that a MetricsSink wrote. Throws a DataError if the line is damaged or not from a
/// sink.
struct LinePlace {
  std::int64_t branch = 1;
  LineKey key;
};

LinePlace place_of(const std::string& line) {
  if (const std::string message = line_error(line); !message.empty()) throw DataError("{}", message);
  require_shallow_json(line);  // dump() below recurses
  const Json object = Json::parse(line, nullptr, false);
  if (!object.is_object()) throw DataError("is not a JSON object");
  const auto whole = [&](const char* name, std::int64_t otherwise) {
    const Json value = object.value(name, Json(otherwise));
    if (!value.is_number_integer()) throw DataError("{} is not a whole number", name);
    return value.get<std::int64_t>();
  };
  if (!object.contains("step")) throw DataError("has no step");
  const std::string kind = object.value("kind", Json()).dump();
  return {.branch = whole("branch", 1), .key = {whole("step", 0), kind == "\"step\"" ? "" : kind}};
}

/// A line of a file with which a run resumes.
struct MetricsLine {
  std::string text;
  std::optional<LineKey> kept;  // set if the line belongs to the lineage and is not after `step`
  std::string message;          // empty if there is none
};

/// Calls `take` for each line. Throws a DataError if the file cannot be read; a missing file counts as empty.
void for_each_line(const std::string& path, const Lineage& lineage, std::int64_t step,
                   const std::function<void(const MetricsLine&)>& take) {
  std::error_code none;
  if (!std::filesystem::exists(path, none)) return;
  { const FileReader refuses_pipes(path); }  // opening one would wait for its writer
  errno = 0;
  std::ifstream file(path);
  if (!file) throw DataError("metrics: {}: cannot be read: {}", path, std::strerror(errno));
  std::int64_t number = 0;
  for (std::string text; std::getline(file, text);) {
    MetricsLine line{.text = text, .kept = {}, .message = {}};
    ++number;
    try {
      // A line without a newline is incomplete even if it parses: more text may have been lost.
      if (file.eof()) throw DataError("the file ends inside a line");
      const LinePlace place = place_of(text);
      if (place.key.first <= step && lineage.contains(place.branch, place.key.first)) line.kept = place.key;
    } catch (const DataError& error) {
      line.message = fmt::format("{}:{}: {}", path, number, error.what());
    }
    take(line);
  }
  if (file.bad()) throw DataError("metrics: {}: cannot be read to its end", path);
}

}  // namespace

std::string depth_name(std::size_t depth) {
  return depth == 0 ? "main" : fmt::format("mtp{}", depth);
}

std::string duration_in_words(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e12) return "?";
  const auto total = static_cast<std::int64_t>(std::llround(seconds));
  if (total < 60) return fmt::format("{}s", total);
  if (total < 3600) return fmt::format("{}m {:02}s", total / 60, total % 60);
  if (total < 86400) return fmt::format("{}h {:02}m", total / 3600, total / 60 % 60);
  return fmt::format("{}d {:02}h", total / 86400, total / 3600 % 24);
}

std::optional<double> EvaluationMetrics::bits_per_byte() const {
  if (bytes == 0 || depth_losses.empty()) return std::nullopt;
  return depth_losses.front() * static_cast<double>(tokens) /
         (std::numbers::ln2 * static_cast<double>(bytes));
}

std::string table(const EvaluationMetrics& metrics) {
  const auto share = [](double value, int width) {
    return fmt::format("{:>{}}", std::isnan(value) ? "-" : fmt::format("{:.3f}", value), width);
  };
  const auto& heads = metrics.heads;
  const auto& free = metrics.free_running;
  std::string text;
  if (heads) text += fmt::format("{:29}acceptance of drafts\n", "");
  text += fmt::format("{:6}{:>8}{:>12}", "depth", "loss", "perplexity");
  if (heads) text += fmt::format("{:>17}", "teacher-forced");
  if (free) text += fmt::format("{:>14}", "free-running");
  for (std::size_t depth = 0; depth < metrics.depth_losses.size(); ++depth) {
    const double loss = metrics.depth_losses[depth];
    text += fmt::format("\n{:6}{:>8.4f}{:>12.3f}", depth_name(depth), loss, std::exp(loss));
    if (depth > 0 && heads) text += share(heads->acceptance.at(depth - 1), 17);
    if (depth > 0 && free) text += share(free->acceptance.at(depth - 1), 14);
  }
  if (heads) text += fmt::format("\n{:26}{:>17.3f}", "tokens a round", heads->accepted_length);
  if (free) text += fmt::format("{:>14.3f}", free->accepted_length);

  const std::optional<double> bits = metrics.bits_per_byte();
  text += fmt::format("\n\nbits/byte  {}\ntext       {} rows, {} tokens",
                      bits ? fmt::format("{:.4f}", *bits) : "unknown for this tokenizer", metrics.rows,
                      metrics.tokens);
  if (bits) text += fmt::format(" of {} bytes", metrics.bytes);
  text += fmt::format("; objective {:.4f}; {}", metrics.loss, milliseconds_in_words(metrics.milliseconds));
  if (free)
    text += fmt::format("\ndrafts     {} rounds over {} tokens after {} prompts, acceptance rate {:.3f}",
                        free->rounds, free->tokens, free->prompts, free->acceptance_rate);
  return text;
}

MetricsSink::MetricsSink(const std::string& path, std::function<void(const std::string&)> warn,
                         std::int64_t branch) try
    : file_(path), warn_(std::move(warn)), branch_(branch) {
} catch (const DataError& error) {
  throw DataError("metrics: {}", error.what());
}

void MetricsSink::append(const std::string& line) try {
  file_.append(sealed_line(line));
} catch (const DataError& error) {
  warn_once(error.what());
}

void MetricsSink::sync() try { file_.sync(); } catch (const DataError& error) {
  warn_once(error.what());
}

void MetricsSink::warn_once(const char* message) {
  if (warned_.exchange(true)) return;
  warn_(fmt::format("metrics: {}", message));
}

void MetricsSink::write(const StepMetrics& metrics) {
  append(line_of(json_of(metrics), branch_));
}

void MetricsSink::write(const EvaluationMetrics& metrics) {
  append(line_of(json_of(metrics), branch_));
}

void MetricsSink::write(const EndMetrics& metrics) {
  append(line_of(json_of(metrics), branch_));
}

TruncatedMetrics truncate_metrics(const std::string& path, const Lineage& lineage, std::int64_t step) {
  const std::string superseded_path = path + ".superseded";
  // Lines of an abandoned branch that the run returns to.
  std::map<LineKey, std::string> returning;
  std::error_code ignored;
  if (std::filesystem::is_regular_file(superseded_path, ignored))
    for_each_line(superseded_path, lineage, step, [&](const MetricsLine& line) {
      if (line.kept) returning[*line.kept] = line.text;
    });
  TruncatedMetrics moved;
  for_each_line(path, lineage, step, [&](const MetricsLine& line) {
    if (line.kept) {
      returning.erase(*line.kept);
    } else if (line.message.empty()) {
      ++moved.superseded;
    } else if (moved.damaged++ == 0) {
      moved.first_damage = line.message;
    }
  });
  if (!returning.empty()) moved.first_returned = returning.begin()->first.first;
  if (moved.superseded + moved.damaged == 0 && returning.empty()) return moved;

  PendingFile pending(path);
  {
    AppendedFile kept(pending.path());
    const auto bring_back = [&](const LineKey& before) {
      while (!returning.empty() && returning.begin()->first < before) {
        kept.append(returning.begin()->second);
        returning.erase(returning.begin());
      }
    };
    std::map<std::string, AppendedFile> others;
    for_each_line(path, lineage, step, [&](const MetricsLine& line) {
      if (line.kept) {
        bring_back(*line.kept);
        return kept.append(line.text);
      }
      const std::string other = line.message.empty() ? superseded_path : path + ".damaged";
      others.try_emplace(other, other).first->second.append(line.text);
    });
    bring_back({step + 1, ""});
    for (auto& [name, other] : others)
      other.sync();  // the lines must be on disk there before they leave this file
  }
  pending.publish();
  return moved;
}

}  // namespace foretoken

#pragma once
// Metrics of a run, read back from metrics.jsonl (io/report/metrics.h describes the lines).

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace foretoken {

struct MetricsHistory {
  /// Values that steps and evaluations share. A non-finite number is NaN.
  struct Losses {
    std::int64_t step = 0;
    std::vector<double> depths;             // [0] main, [k] MTP depth k
    std::vector<double> acceptance;         // [k - 1] of depth k; empty if not reported
    std::optional<double> accepted_length;  // empty if not reported
  };
  struct Step : Losses {
    std::int64_t tokens_seen = 0;
    double milliseconds = 0;
    double tokens_per_second = 0;
    double lr = 0, grad_norm = 0;
    double checkpoint_seconds = 0;  // in which training waited for saves since the step before
    double tflops_per_rank = 0;     // NaN in lines of earlier versions
    std::vector<double> shares;     // of the step's time, in the order of time_shares; empty if not measured
    std::optional<std::int64_t> memory_bytes;
  };
  static constexpr std::array<const char*, 5> time_shares = {
      "compute_share", "bubble", "exposed_communication", "optimizer_share", "data_share"};
  std::vector<Step> steps;
  std::vector<Losses> evaluations;
  std::optional<std::int64_t> peak_memory_bytes;  // maximum over all launches of the program
  std::int64_t unreadable_lines = 0;              // left out because they are damaged or not metrics
  std::string first_unreadable;                   // "PATH:LINE: what is wrong"; empty if there is none
  bool torn = false;                              // the file ends inside a line, which is left out

  /// Tokens seen, and seconds spent in steps, after `step` steps; 0 before the first.
  double tokens_at(std::int64_t step) const;
  double seconds_at(std::int64_t step) const;
};

/// Reads the history. A missing file is an empty history. An incomplete last line, which a killed writer
/// leaves, is left out. A line that is not metrics, or whose "check" differs from its content, is left out
/// and counted. Throws a DataError if the file cannot be read or a line is too long.
MetricsHistory read_metrics(const std::string& path);

}  // namespace foretoken

#pragma once
// What a run has reported, read back from metrics.jsonl (io/metrics.h has the lines).

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace foretoken {

struct MetricsHistory {
  /// What steps and evaluations both say. A number that was not finite is NaN.
  struct Losses {
    std::int64_t step = 0;
    std::vector<double> depths;             // [0] main, [k] MTP depth k
    std::vector<double> acceptance;         // [k - 1] of depth k, where it is reported
    std::optional<double> accepted_length;  // where it is reported
  };
  struct Step : Losses {
    std::int64_t tokens_seen = 0;
    double milliseconds = 0;
    double tokens_per_second = 0;
  };
  std::vector<Step> steps;
  std::vector<Losses> evaluations;
  std::optional<std::int64_t> peak_memory_bytes;  // the most of all ends
  std::int64_t unreadable_lines = 0;              // left out, since they are damaged or no metrics
  std::string first_unreadable;                   // "PATH:LINE: what is wrong", empty where there is none
  bool torn = false;                              // the file ends inside a line, which is left out

  /// Tokens seen and seconds spent in steps when `step` of them were done; 0 before the first.
  double tokens_at(std::int64_t step) const;
  double seconds_at(std::int64_t step) const;
};

/// A missing file is an empty history, as is what a kill left torn at its end. A line that is no metrics, or
/// whose "check" does not agree with it, is left out and counted. A DataError where the file cannot be read
/// or a line has no end.
MetricsHistory read_metrics(const std::string& path);

}  // namespace foretoken

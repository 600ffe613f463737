#pragma once
// What a run reports: one JSON object a line (metrics.jsonl) and the console's line of a step.
//
// A step's line:        {"kind": "step", "step": 120, "steps": 400, "loss": 2.3456, "main_loss": 2.10,
//                        "mtp1_loss": 2.40, "mtp1_weight": 0.3, "grad_norm": 0.84, "lr": 3e-4,
//                        "milliseconds": 182, "tokens_per_second": 11250, "tokens_seen": 245760,
//                        "samples_seen": 1920, "time": ...}
// and, where a step measured them, "mtp1_acceptance": 0.41, "accepted_length": 1.41, "main_trunk_norm": 0.02,
// "mtp1_trunk_norm": 0.006, "mtp1_trunk_cosine": 0.3.
// An evaluation's line: {"kind": "evaluation", "step": 120, "loss": ..., "main_loss": ..., "main_perplexity":
//                        ..., "mtp1_acceptance": ..., "accepted_length": ..., "rows": 64, "tokens": 8130,
//                        "bytes": 8101, "bits_per_byte": 2.1, ...}
// and, where free-running drafts were measured, "free_prompts": 64, "free_tokens": 4096, "free_rounds": 2530,
// "free_mtp1_acceptance": 0.4, "free_acceptance_rate": ..., "free_accepted_length": ....
// From the 17th step of a start on "loss_z" and "grad_norm_z"; of a step whose update was skipped "skipped":
// true, and from the first such step on "skipped_steps": 2, how many there were.
// A depth that a step did not train, or had no target for, has the loss NaN.
// Where a run ends or stops: {"kind": "end", "step": 400, "seconds": 73.1, "peak_memory_bytes": 214958080,
//                        "time": ...}
// A line of a run that went back says "branch": 2 (io/lineage.h); without it a line is of branch 1.
// Each line ends with "check": "0123456789abcdef", a digest of what is before it (io/sealed_text.h).
// JSON has no NaN or infinity: such a number is null, and beside it "<name>_text" holds "nan", "inf" or
// "-inf".

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/durable_file.h"
#include "io/lineage.h"

namespace foretoken {

/// What is measured of prediction heads beside their losses.
struct HeadsMetrics {
  std::vector<double> acceptance;     // [D] of drafts to depth k, the share that the main model agrees with
  double accepted_length = 1;         // 1 + Σ acceptance: tokens that a step of speculative decoding gives
  std::vector<double> trunk_norms;    // [D + 1] gradient norm of each depth's loss at the trunk; may be empty
  std::vector<double> trunk_cosines;  // [D] between depth k's gradient there and the main loss's
};

struct StepMetrics {
  std::int64_t step = 0;             // finished steps, from 1
  std::int64_t steps = 0;            // of the whole run
  double loss = 0;                   // the objective: main loss and weighted MTP losses
  std::vector<double> depth_losses;  // [0] main, [k] MTP depth k; nats per token; not a number: not drawn
  std::vector<double> weights;       // likewise, in the objective
  double grad_norm = 0;              // global, before the clip
  std::optional<double>
      heads_grad_norm;  // where heads have a norm of their own; grad_norm is then the others'
  /// z-scores among the steps before: (x − mean) / deviation; nothing while too few came before.
  std::optional<double> loss_z, grad_norm_z;
  bool skipped = false;            // loss or norm is not finite: the step changed no weight
  std::int64_t skipped_steps = 0;  // of the whole run so far
  double lr = 0;
  double milliseconds = 0;
  double tokens_per_second = 0;
  double seconds_left = 0;
  std::int64_t tokens_seen = 0;
  std::int64_t samples_seen = 0;
  std::optional<HeadsMetrics> heads;  // of steps that measure it
};

/// Drafts that went on from drafts, over text that the model wrote itself (launch/free_running.h).
struct FreeRunningMetrics {
  std::int64_t prompts = 0;
  std::int64_t tokens = 0;  // written after them
  std::int64_t rounds = 0;  // in which drafts were verified
  std::vector<double>
      acceptance;              // [D] of rounds, the share in which draft k, and so all before it, was kept
  double acceptance_rate = 0;  // accepted / drafted
  double accepted_length = 1;  // 1 + accepted / rounds: tokens of a round
  std::int64_t step = 0;       // of the checkpoint that drafted
};

struct EvaluationMetrics {
  std::int64_t step = 0;
  double loss = 0;
  std::vector<double> depth_losses;
  std::int64_t rows = 0;
  std::int64_t tokens = 0;  // targets of the main loss
  /// Of text that those stand for (bytes_of_tokens()); 0: not known.
  std::int64_t bytes = 0;
  double milliseconds = 0;
  std::optional<HeadsMetrics> heads;  // where there are heads; their drafts are taken with the text given
  std::optional<FreeRunningMetrics> free_running;

  /// The main loss over all its targets in bits, per byte of their text: nats · tokens / (ln 2 · bytes). It
  /// compares models of different tokenizers (Gao et al., "The Pile", arXiv 2101.00027, section 3.1). The
  /// token that ends a document is a target and costs nats, but is no byte of text; a document's first token
  /// has nothing before it, is no target and counts in neither. Nothing where bytes are not known.
  std::optional<double> bits_per_byte() const;
};

/// Of one start of the program: a run that was resumed has several.
struct EndMetrics {
  std::int64_t step = 0;
  double seconds = 0;  // in the loop over steps
  /// Of the rank that has most: the process's resident memory at its peak; of a GPU, its memory in use.
  std::int64_t peak_memory_bytes = 0;
};

/// "step 120/400 | loss 2.3456 (+0.12z) | main 2.1000 mtp1 2.4000 | grad 0.84 (-0.40z) | lr 3.0e-04 | 182 ms
/// | 11250 tok/s | 51s left"; scores where there are; of a step without an update "| skipped" behind lr; of a
/// step that measured heads, after the losses: "| accepted 1.41 tokens (0.410) | at the trunk mtp1 0.30 cos
/// 0.12", the norm being over the main loss's
std::string console_line(const StepMetrics& metrics);
/// "evaluation at step 120 | loss 2.3456 | main 2.1000 mtp1 2.4000 | 3.041 bits/byte | accepted 1.41 tokens
/// (0.410) | 64 rows | 182 ms"
std::string console_line(const EvaluationMetrics& metrics);

/// All of an evaluation in lines for a person:
///
///                               acceptance of drafts
///   depth     loss  perplexity  teacher-forced  free-running
///   main    1.3863       4.000
///   mtp1    1.7918       6.000           0.500         0.450
///   tokens a round                       1.500         1.450
///   ...
std::string table(const EvaluationMetrics& metrics);

/// "51s", "3m 20s", "2h 05m", "4d 03h"
std::string duration_in_words(double seconds);

/// Appends to metrics.jsonl, each line whole and at once. A write that fails (a full disk) leaves no part of
/// its line, is reported once and throws nothing; the next line is tried again.
class MetricsSink {
 public:
  /// A DataError where the file cannot be opened.
  /// `branch` of the run (io/lineage.h); lines of branches above the first say it.
  MetricsSink(const std::string& path, std::function<void(const std::string&)> warn, std::int64_t branch = 1);

  void write(const StepMetrics& metrics);
  void write(const EvaluationMetrics& metrics);
  void write(const EndMetrics& metrics);
  /// Returns when all lines are on disk. May be called from another thread.
  void sync();

 private:
  void append(const std::string& line);
  void warn_once(const char* fault);

  AppendedFile file_;
  std::function<void(const std::string&)> warn_;
  std::atomic<bool> warned_ = false;
  std::int64_t branch_;
};

/// Lines that were moved out of metrics.jsonl.
struct TruncatedMetrics {
  std::int64_t superseded = 0;  // of later steps and of abandoned branches
  std::int64_t damaged = 0;
  std::string first_damage;  // "PATH:LINE: what is wrong"
};

/// Before a run resumes at `step` of its line: moves the lines of later steps and of abandoned branches from
/// the file to the end of "<path>.superseded", and brings lines back from there that the line holds again, so
/// that each step of the line appears once and nothing is lost. Damaged lines, and what a kill left torn, go
/// to the end of "<path>.damaged". A missing file is an empty one. A DataError where a file cannot be read or
/// written.
TruncatedMetrics truncate_metrics(const std::string& path, const Lineage& lineage, std::int64_t step);

}  // namespace foretoken

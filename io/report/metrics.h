#pragma once
// Metrics of a run: one JSON object per line (metrics.jsonl), and an evaluation as a table.
//
//   step        {"kind": "step", "step": 120, "steps": 400, "loss": 2.3456, "main_loss": 2.10,
//                "mtp1_loss": 2.40, "mtp1_weight": 0.3, "grad_norm": 0.84, "lr": 3e-4, "milliseconds": 182,
//                "tokens_per_second": 11250, "tflops_per_rank": 0.012, "tokens_seen": 245760, "samples_seen":
//                1920, "time": ...}
//               If a step measured them: "mtp1_acceptance": 0.41, "accepted_length": 1.41,
//               "main_trunk_norm": 0.02, "mtp1_trunk_norm": 0.006, "mtp1_trunk_cosine": 0.3.
//               From the 17th step of a launch on: "loss_z", "grad_norm_z". If the update was skipped:
//               "skipped": true. From the first skipped step on: "skipped_steps": 2, their number. The loss
//               of a depth that a step did not train, or that had no target, is NaN. If the ranks' times were
//               measured (StepTimes): "compute_share": 0.81, "bubble": 0.12, "exposed_communication": 0.03,
//               "optimizer_share": 0.02, "data_share": 0.0, "slowest_rank": 3, "slowest_rank_excess": 0.04,
//               "memory_bytes": 214958080, the largest of the ranks. If training has waited for
//               saves since the line before: "checkpoint_seconds": 0.21.
//   evaluation  {"kind": "evaluation", "step": 120, "loss": ..., "main_loss": ..., "main_perplexity": ...,
//                "mtp1_acceptance": ..., "accepted_length": ..., "rows": 64, "tokens": 8130,
//                "bytes": 8101, "bits_per_byte": 2.1, ...}
//               If free-running drafts were measured: "free_prompts": 64, "free_tokens": 4096,
//               "free_rounds": 2530, "free_mtp1_acceptance": 0.4, "free_acceptance_rate": ...,
//               "free_accepted_length": ....
//   end         {"kind": "end", "step": 400, "seconds": 73.1, "peak_memory_bytes": 214958080,
//                "checkpoint_seconds": 0.4, "time": ...}
//               when a run ends or stops
//
// A line of a branch above 1 has "branch": 2 (io/checkpoint/lineage.h). Each line ends with "check":
// "0123456789abcdef", a digest of the bytes before it (io/files/sealed_text.h). JSON has no NaN or infinity:
// such a number is null, and "<name>_text" beside it is "nan", "inf" or "-inf".

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint/lineage.h"
#include "io/files/durable_file.h"

namespace foretoken {

/// Metrics of prediction heads in addition to their losses.
struct HeadsMetrics {
  std::vector<double> acceptance;   // [D] share of positions where drafts 1 to k are the main model's choices
  double accepted_length = 1;       // 1 + Σ acceptance: tokens per step of speculative decoding
  std::vector<double> trunk_norms;  // [D + 1] gradient norm of each depth's loss at the trunk; may be empty
  std::vector<double> trunk_cosines;  // [D] cosine of depth k's gradient there and the main loss's
};

/// How the ranks spent a step: shares of its time, means over the ranks. The rest of the step is the host's
/// work between them. A pass is the time from the first action of any rank to the last action of any rank.
struct StepTimes {
  double compute = 0;  // forward and backward actions
  double bubble = 0;   // within the pass and the rank's step, in no action, waiting for messages or ranks
  double exposed_communication =
      0;                      // after the pass, not computing: reductions and gathers that are not hidden
  double optimizer = 0;       // gradient norm, update and digests
  double data = 0;            // waiting for the step's rows
  int slowest_rank = 0;       // the rank that computed longest
  double slowest_excess = 0;  // its time in actions and optimizer / the median of the ranks − 1
  std::vector<double> compute_seconds;     // [ranks] in actions and optimizer
  std::vector<std::int64_t> memory_bytes;  // [ranks] peak resident memory, or a GPU's memory in use
};

struct StepMetrics {
  std::int64_t step = 0;                  // finished steps, starting at 1
  std::int64_t steps = 0;                 // steps of the whole run
  double loss = 0;                        // the objective: main loss and weighted MTP losses
  std::vector<double> depth_losses;       // [0] main, [k] depth k; nats per token; NaN if not trained
  std::vector<double> weights;            // weights of the losses in the objective, same indices
  double grad_norm = 0;                   // global, before clipping
  std::optional<double> heads_grad_norm;  // set if grad_norm excludes the heads
  /// z-scores relative to earlier steps: (x − mean) / deviation; empty while there are too few.
  std::optional<double> loss_z, grad_norm_z;
  bool skipped = false;            // loss or norm is not finite: the step changed no weight
  std::int64_t skipped_steps = 0;  // in the whole run so far
  double lr = 0;
  double milliseconds = 0;
  double checkpoint_seconds = 0;  // in which training waited for saves between the previous step and this one
  double tokens_per_second = 0;
  double tflops_per_rank = 0;  // model TFLOP/s (training_flops_per_token() in model/cost.h)
  double seconds_left = 0;
  std::int64_t tokens_seen = 0;
  std::int64_t samples_seen = 0;
  std::optional<HeadsMetrics> heads;  // set if the step measured it
  std::optional<StepTimes> times;     // set if the step measured it
};

/// Acceptance of drafts while the model continues its own text (launch/commands/free_running.h). A chained
/// head reads the drafts of the shallower depths, not the text's tokens.
struct FreeRunningMetrics {
  std::int64_t prompts = 0;
  std::int64_t tokens = 0;         // written after the prompts
  std::int64_t rounds = 0;         // in which drafts were verified
  std::vector<double> acceptance;  // [D] share of rounds in which draft k, and all before it, was accepted
  double acceptance_rate = 0;      // accepted / drafted
  double accepted_length = 1;      // 1 + accepted / rounds: tokens per round
  std::int64_t step = 0;           // step of the checkpoint that drafted
};

struct EvaluationMetrics {
  std::int64_t step = 0;
  double loss = 0;
  std::vector<double> depth_losses;
  std::int64_t rows = 0;
  std::int64_t tokens = 0;  // targets of the main loss
  /// Bytes of the targets' text (bytes_of_tokens()); 0: unknown.
  std::int64_t bytes = 0;
  double milliseconds = 0;
  /// Teacher-forced, on the dataset's text. Set if there are heads and the loss is finite.
  std::optional<HeadsMetrics> heads;
  std::optional<FreeRunningMetrics> free_running;

  /// The main loss over all its targets in bits per byte of their text: nats · tokens / (ln 2 · bytes). It
  /// allows a comparison of models with different tokenizers (Gao et al., "The Pile", arXiv 2101.00027,
  /// section 3.1). The end-of-document token is a target and costs nats, but is no byte of text. A document's
  /// first token has no predecessor, is not a target and counts in neither. Empty if bytes are unknown.
  std::optional<double> bits_per_byte() const;
};

/// Metrics of one launch of the program; a resumed run has several launches.
struct EndMetrics {
  std::int64_t step = 0;
  double seconds = 0;  // in the loop over steps
  /// Maximum over ranks: the process's peak resident memory or, for a GPU, its memory in use.
  std::int64_t peak_memory_bytes = 0;
  double checkpoint_seconds = 0;  // in which training waited for saves after its last step
};

/// "main" for depth 0, "mtp1" for the first depth after it.
std::string depth_name(std::size_t depth);

/// A whole evaluation as lines for the console:
///
///                               acceptance of drafts
///   depth     loss  perplexity  teacher-forced  free-running
///   main    1.3863       4.000
///   mtp1    1.7918       6.000           0.500         0.450
///   tokens a round                       1.500         1.450
///   ...
std::string table(const EvaluationMetrics& metrics);

/// Examples: "51s", "3m 20s", "2h 05m", "4d 03h".
std::string duration_in_words(double seconds);

/// Appends to metrics.jsonl, one whole line at a time, without delay. A failed write (a full disk) leaves no
/// partial line, is reported once and throws nothing; the next line is tried again.
class MetricsSink {
 public:
  /// Throws a DataError if the file cannot be opened. `branch` is the run's (io/checkpoint/lineage.h); lines
  /// of branches above 1 record it.
  MetricsSink(const std::string& path, std::function<void(const std::string&)> warn, std::int64_t branch = 1);

  void write(const StepMetrics& metrics);
  void write(const EvaluationMetrics& metrics);
  void write(const EndMetrics& metrics);
  /// Returns when all lines are on disk. Callable from another thread.
  void sync();

 private:
  void append(const std::string& line);
  void warn_once(const char* message);

  AppendedFile file_;
  std::function<void(const std::string&)> warn_;
  std::atomic<bool> warned_ = false;
  std::int64_t branch_;
};

/// Lines that were moved out of metrics.jsonl.
struct TruncatedMetrics {
  std::int64_t superseded = 0;  // from later steps and abandoned branches
  std::int64_t damaged = 0;
  std::string first_damage;  // "PATH:LINE: what is wrong"
  /// Lines of an abandoned branch returned to the file: the first step that they are of.
  std::optional<std::int64_t> first_returned;
};

/// Prepares metrics.jsonl before a run resumes at `step` of its lineage. Lines of later steps and of
/// abandoned branches move from the file to the end of "<path>.superseded", and lines that belong to the
/// lineage again move back, so each step of the lineage appears once and nothing is lost. Damaged lines, and
/// an incomplete last line, move to the end of "<path>.damaged". A missing file counts as empty. Throws a
/// DataError if a file cannot be read or written.
TruncatedMetrics truncate_metrics(const std::string& path, const Lineage& lineage, std::int64_t step);

}  // namespace foretoken

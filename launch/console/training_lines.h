#pragma once
// Formats a training run's steps and evaluations for the console. metrics.jsonl holds more
// (io/report/metrics.h).

#include <string>

#include "io/report/metrics.h"

namespace foretoken {

/// One line whose columns are the same for every step of a run:
///
///   step 120/400  loss 2.3456  main 2.1000  mtp 2.4000 2.6200  grad    0.84  lr 3.0e-04  182 ms  11250 tok/s
///   412.5 TFLOP/s  bubble 12.0 %  exposed  3.1 %  slowest 3 +4 %  1.2 GiB
///
/// TFLOP/s are the model's, per rank. Steps that measured the ranks' times (StepTimes) have the bubble,
/// exposed communication, the rank that computed longest and by how much more than the median, and the
/// largest memory of a rank. If the line would be wider than `columns`, columns are left out: first z-scores
/// that are not unusual, then the slowest rank, the memory, exposed communication, the time, the learning
/// rate, TFLOP/s, the bubble, the gradient norm, the losses of the depths. "-" stands for a depth that the
/// step did not train. A step without an update ends with "skipped"; if the loss or the gradient norm is
/// unusual (more than 5 standard deviations from the mean of earlier steps), the line ends with its z-score:
/// "loss z +6.2".
std::string step_line(const StepMetrics& metrics, int columns);

/// Whether the console shows this step even if it is not due: it was skipped, it is unusual, or it measured
/// the heads.
bool is_notable(const StepMetrics& metrics);

/// A step's measurements of the heads; requires metrics.heads. The acceptance is left out if almost no draft
/// was accepted, the gradients if they were not measured.
///
///   heads at step 120   acceptance  trunk gradient  cosine
///     mtp1                   0.410           0.250    0.12
///     mtp2                   0.200           0.500   -0.30
///   1.61 tokens a round
std::string heads_table(const StepMetrics& metrics);

/// An evaluation in the middle of a run:
///
///   evaluation at step 120     loss  perplexity  acceptance
///     main                   2.1000       8.166
///     mtp1                   2.4000      11.023       0.410
///   3.030 bits/byte, 1.41 tokens a round, 64 rows in 182 ms
std::string evaluation_table(const EvaluationMetrics& metrics);

/// Progress through the run for the last line of a terminal: "step 120/400  [####----]   30 %  51s left".
std::string training_progress(std::int64_t step, std::int64_t steps, double seconds_left, int columns);

/// A loss in six characters: "2.3456", "10.346".
std::string loss_text(double loss);

}  // namespace foretoken

#include "launch/console/training_lines.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "launch/console/closing_block.h"
#include "launch/console/terminal.h"
#include "tests/support/catch.h"
#include "tests/support/example_metrics.h"

using namespace foretoken;
using foretoken::testing::contains;
using foretoken::testing::example_step;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr int wide = 1000;

}  // namespace

TEST_CASE("a step line for a narrow terminal leaves out the least important columns first") {
  CHECK(step_line(example_step(20), wide) ==
        "step  20/400  loss 2.3456  main 2.1000  mtp 2.4000 2.6200  grad    0.840  lr 3.0e-04   182 ms    "
        "11250 "
        "tok/s");
  CHECK(
      step_line(example_step(20), 100) ==
      "step  20/400  loss 2.3456  main 2.1000  mtp 2.4000 2.6200  grad    0.840  lr 3.0e-04    11250 tok/s");
  CHECK(step_line(example_step(20), 80) ==
        "step  20/400  loss 2.3456  main 2.1000  mtp 2.4000 2.6200    11250 tok/s");
  CHECK(step_line(example_step(20), 10) == "step  20/400  loss 2.3456    11250 tok/s");
}

TEST_CASE("a measured step line says how the ranks spent it, and fits a terminal of 120 columns") {
  StepMetrics metrics = example_step(20);
  metrics.tflops_per_rank = 412.5;
  metrics.times = StepTimes{.bubble = 0.12,
                            .exposed_communication = 0.031,
                            .slowest_rank = 3,
                            .slowest_excess = 0.04,
                            .memory_bytes = {1000, 1200000000}};
  CHECK_THAT(step_line(metrics, wide),
             contains(" tok/s  412.5 TFLOP/s  bubble 12.0 %  exposed  3.1 %  slowest 3 +4 %  1.2 GB"));
  const std::string fitted = step_line(metrics, 119);
  CHECK(fitted.size() <= 119);
  CHECK_THAT(fitted, contains("grad") && contains("bubble 12.0 %") && !contains("slowest"));
  metrics.tflops_per_rank = 0.0712;
  CHECK_THAT(step_line(metrics, wide), contains("  71.20 GFLOP/s  "));
}

TEST_CASE("step lines of a run have the same columns for small and large numbers") {
  const std::string line = step_line(example_step(20), wide);
  for (const double scale : {1e-3, 1.0, 4.7, 47.0}) {
    StepMetrics other = example_step(20);
    other.step = 399;
    other.loss *= scale;
    other.depth_losses = {2.1 * scale, not_a_number, 2.62 * scale};
    other.grad_norm *= scale;
    other.milliseconds *= scale;
    other.tokens_per_second *= scale;
    INFO(step_line(other, wide));
    CHECK(step_line(other, wide).size() == line.size());
    for (const char* label : {"loss ", "mtp ", "grad ", "lr ", " tok/s"})
      CHECK(step_line(other, wide).find(label) == line.find(label));
  }
}

TEST_CASE("a step line without heads has one loss, and marks unusual values") {
  StepMetrics metrics = example_step(20);
  metrics.depth_losses = {2.34564};
  metrics.loss_z = 0.3;
  CHECK_FALSE(is_notable(metrics));
  CHECK(step_line(metrics, wide) ==
        "step  20/400  loss 2.3456  grad    0.840  lr 3.0e-04   182 ms    11250 tok/s  z  +0.3     -");
  metrics.loss_z = 6.24;
  metrics.skipped = true;
  metrics.grad_norm = not_a_number;
  CHECK(is_notable(metrics));
  CHECK(
      step_line(metrics, wide) ==
      "step  20/400  loss 2.3456  grad      nan  lr 3.0e-04   182 ms    11250 tok/s  skipped  z  +6.2     -");
  metrics = example_step(20);
  metrics.heads_grad_norm = 0.126;
  CHECK_THAT(step_line(metrics, wide), testing::contains("grad    0.840 heads    0.126  lr"));
}

TEST_CASE("measurements of heads are a table, without acceptance if no draft was accepted") {
  StepMetrics metrics = example_step(20);
  metrics.heads = HeadsMetrics{.acceptance = {0.41, not_a_number},
                               .accepted_length = 1.41,
                               .trunk_norms = {0.04, 0.01, 0.02},
                               .trunk_cosines = {0.12, -0.3}};
  CHECK(is_notable(metrics));
  CHECK("\n" + heads_table(metrics) == R"(
heads at step 20  acceptance  trunk gradient  cosine
  mtp1                 0.410           0.250    0.12
  mtp2                     -           0.500   -0.30
  1.41 tokens a round)");
  metrics.heads->accepted_length = 1.004;
  CHECK("\n" + heads_table(metrics) == R"(
heads at step 20  trunk gradient  cosine
  mtp1                     0.250    0.12
  mtp2                     0.500   -0.30)");
  metrics.heads->trunk_norms.clear();
  CHECK(heads_table(metrics) == "heads at step 20: no draft is accepted");
}

TEST_CASE("an evaluation during a run is a short table") {
  EvaluationMetrics metrics{.step = 120,
                            .loss = 2.5,
                            .depth_losses = {2.1, 11.25},
                            .rows = 1,
                            .tokens = 1000,
                            .bytes = 1000,
                            .milliseconds = 9.126};
  metrics.heads = HeadsMetrics{.acceptance = {0.41}, .accepted_length = 1.41};
  CHECK("\n" + evaluation_table(metrics) == R"(
evaluation at step 120    loss  perplexity  acceptance
  main                  2.1000       8.166
  mtp1                  11.250   7.688e+04       0.410
  3.030 bits/byte, 1.41 tokens a round, 1 row in 9.13 ms)");
  metrics.heads->accepted_length = 1;
  metrics.bytes = 0;
  CHECK("\n" + evaluation_table(metrics) == R"(
evaluation at step 120    loss  perplexity
  main                  2.1000       8.166
  mtp1                  11.250   7.688e+04
  1 row in 9.13 ms)");
}

TEST_CASE("the progress of a run fits any terminal") {
  CHECK(training_progress(120, 400, 51, 79) ==
        "step 120/400  [############----------------------------]   30 %  51s left");
  CHECK(training_progress(120, 400, 51, 42) == "step 120/400  [##-------]   30 %  51s left");
  CHECK(training_progress(120, 400, 51, 20) == "step 120/400");
}

TEST_CASE("the closing block states the run's results and gives commands that use it") {
  RunSummary summary{
      .step = 400,
      .steps = 400,
      .trained = 400,
      .tokens = 1'638'400,
      .seconds = 73,
      .tokens_per_second = 22'444,
      .peak_memory_bytes = 215'000'000,
      .last_step = example_step(20),
      .last_evaluation = EvaluationMetrics{.step = 400, .loss = 2.4, .depth_losses = {2.2, 2.5, 2.7}},
      .run = "runs/first",
      .commands = {{"generate", "foretoken generate runs/first"}}};
  CHECK("\n" + closing_block(summary, wide) == R"(
done       400 steps in 1m 13s, 1.64 M tokens seen, 22444 tokens/s, peak memory 215 MB a rank
loss         total    main    mtp1    mtp2
  training  2.3456  2.1000  2.4000  2.6200
  held out  2.4000  2.2000  2.5000  2.7000
run        runs/first
generate   foretoken generate runs/first)");
  summary.end = RunSummary::End::stopped;
  summary.steps = 500;
  summary.trained = 1;
  summary.last_evaluation->step = 300;
  summary.last_step->depth_losses.resize(1);
  summary.last_evaluation->depth_losses.resize(1);
  CHECK("\n" + closing_block(summary, wide) == R"(
stopped    at step 400 of 500, 1 of them in this launch in 1m 13s, 1.64 M tokens seen, 22444 tokens/s, peak memory 215 MB a rank
loss          main
  training  2.1000
  held out  2.2000  at step 300
run        runs/first
generate   foretoken generate runs/first)");
  CHECK_THAT(
      closing_block({.end = RunSummary::End::nothing_left, .step = 400, .steps = 400, .run = "runs/first"},
                    wide),
      testing::contains("the run has trained 400 steps, train.steps is 400: nothing is left to train\nrun "));
}

TEST_CASE("wrapped text keeps its words, its line breaks and its columns") {
  CHECK(wrapped("stop       one two three four\nrun        x", 20, 11) ==
        "stop       one two\n           three\n           four\nrun        x");
  CHECK(wrapped("word", 2, 1) == "word");
  CHECK(wrapped("a  1234567890", 8, 2) == "a\n  1234567890");
  CHECK(width_of("λ × 2") == 5);
}

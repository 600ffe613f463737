// Metrics of a run, read back; and tables as CSV.
#include "io/report/metrics_history.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include "io/report/csv.h"
#include "io/report/metrics.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
using foretoken::testing::contains;

TEST_CASE("written metrics read back") {
  const TemporaryFolder folder;
  const std::string path = (folder / "metrics.jsonl").string();
  {
    MetricsSink sink(path, [](const std::string& text) { FAIL(text); });
    EvaluationMetrics evaluation;
    evaluation.depth_losses = {5.5, 5.6};
    sink.write(evaluation);
    for (std::int64_t step = 1; step <= 3; ++step) {
      StepMetrics metrics;
      metrics.step = step;
      metrics.depth_losses = {4.0 / static_cast<double>(step), step == 2 ? NAN : 4.5};
      metrics.milliseconds = 500;
      metrics.checkpoint_seconds = step == 2 ? 0.25 : 0;
      metrics.tokens_per_second = 2048;
      metrics.tokens_seen = 1024 * step;
      sink.write(metrics);
    }
    evaluation.step = 3;
    evaluation.depth_losses = {1.25, 2.5};
    sink.write(evaluation);
    sink.write(EndMetrics{.step = 2, .seconds = 1, .peak_memory_bytes = 900});
    sink.write(EndMetrics{.step = 3, .seconds = 1, .peak_memory_bytes = 700, .checkpoint_seconds = 0.5});
  }
  const MetricsHistory history = read_metrics(path);
  REQUIRE(history.steps.size() == 3);
  CHECK(history.steps[1].depths[0] == 2);
  CHECK(std::isnan(history.steps[1].depths[1]));
  CHECK(history.steps[2].tokens_per_second == 2048);
  REQUIRE(history.evaluations.size() == 2);
  CHECK(history.evaluations[1].step == 3);
  CHECK(history.evaluations[1].depths == std::vector<double>{1.25, 2.5});
  CHECK(history.evaluations[1].acceptance.empty());
  CHECK(history.peak_memory_bytes == 900);
  CHECK(history.steps[1].checkpoint_seconds == 0.25);
  CHECK(history.steps[2].checkpoint_seconds == 0);
  CHECK(history.tokens_at(0) == 0);
  CHECK(history.tokens_at(2) == 2048);
  CHECK(history.seconds_at(3) == 1.5);
}

TEST_CASE("acceptance is read from the lines that report it") {
  const TemporaryFolder folder;
  const auto path = folder.write(
      "m.jsonl",
      R"({"kind": "evaluation", "step": 4, "main_loss": 1, "mtp1_loss": 2, "mtp1_acceptance": 0.5, "mtp2_acceptance": null, "accepted_length": 1.5})"
      "\n");
  const MetricsHistory history = read_metrics(path.string());
  REQUIRE(history.evaluations.size() == 1);
  REQUIRE(history.evaluations[0].acceptance.size() == 2);
  CHECK(history.evaluations[0].acceptance[0] == 0.5);
  CHECK(std::isnan(history.evaluations[0].acceptance[1]));
  CHECK(history.evaluations[0].accepted_length == 1.5);
}

TEST_CASE("a metrics file may be missing or torn, and invalid lines are left out and counted") {
  const TemporaryFolder folder;
  CHECK(read_metrics((folder / "none.jsonl").string()).steps.empty());
  const std::string line = R"({"kind": "evaluation", "step": 4, "main_loss": 1})";
  CHECK(read_metrics(folder.write("torn.jsonl", line + "\n" + line.substr(0, 30)).string())
            .evaluations.size() == 1);
  const MetricsHistory history =
      read_metrics(folder.write("bad.jsonl", line + "\n{}\n" + line + "\n\xff\n").string());
  CHECK(history.evaluations.size() == 2);
  CHECK(history.unreadable_lines == 2);
  CHECK_THAT(history.first_unreadable, contains("bad.jsonl:2: "));
}

TEST_CASE("a metrics line with deep nesting or a fractional step is left out, an endless line is refused") {
  const TemporaryFolder folder;
  const std::string line = R"({"kind": "evaluation", "step": 4, "main_loss": 1})";
  const auto config_error = [&](const std::string& second) {
    return read_metrics(folder.write("bad.jsonl", line + "\n" + second + "\n").string()).first_unreadable;
  };
  CHECK_THAT(config_error(std::string(100'000, '[')), contains("nested deeper than 64 levels"));
  CHECK_THAT(config_error(R"({"kind": "evaluation", "step": 1e300, "main_loss": 1})"),
             contains("step is 1e+300"));
  CHECK_THROWS_WITH(config_error(std::string(2 << 20, ' ')), contains("longer than 1048576 bytes"));
}

TEST_CASE("metrics of many lines are read to the last one") {
  const TemporaryFolder folder;
  std::string text;
  for (int step = 0; step < 20'000; ++step)
    text += R"({"kind": "evaluation", "step": )" + std::to_string(step) + R"(, "main_loss": 1})" + "\n";
  const MetricsHistory history = read_metrics(folder.write("m.jsonl", text).string());
  REQUIRE(history.evaluations.size() == 20'000);
  for (std::int64_t step = 0; step < 20'000; ++step)
    REQUIRE(history.evaluations[static_cast<std::size_t>(step)].step == step);
}

TEST_CASE("text that a spreadsheet would take for a formula is marked as text in CSV") {
  CHECK(csv_line({"=1+1", "+a", "-b", "@c", "\t=d"}) == "'=1+1,'+a,'-b,'@c,'\t=d\n");
  CHECK(csv_line({"=a,b"}) == "\"'=a,b\"\n");
  CHECK(csv_line({"-1.5", "+2e-3", "-inf", "1-2"}) == "-1.5,+2e-3,-inf,1-2\n");
}

TEST_CASE("CSV contains no control character of a field") {
  CHECK(csv_line({"esc\x1b[31mred", "a\tb"}) == "esc\\x1b[31mred,a\tb\n");
}

TEST_CASE("fields of CSV are quoted if necessary") {
  CHECK(csv_line({"a", "", "1.5"}) == "a,,1.5\n");
  CHECK(csv_line({"a, b", "say \"c\"", "d\ne"}) == "\"a, b\",\"say \"\"c\"\"\",\"d\ne\"\n");
}

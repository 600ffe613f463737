// The Prometheus text file. tests/system/metrics_readers.py reads it with the Prometheus client's parser.
#include "io/report/prometheus.h"

#include <fstream>
#include <limits>
#include <regex>
#include <set>
#include <sstream>

#include "io/report/metrics_outputs.h"
#include "tests/support/catch.h"
#include "tests/support/example_metrics.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
using foretoken::testing::contains;
using foretoken::testing::example_step;

namespace {

StepMetrics measured_step() {
  StepMetrics metrics = example_step(20);
  metrics.times = StepTimes{.compute = 0.8,
                            .bubble = 0.15,
                            .slowest_rank = 1,
                            .compute_seconds = {0.1, 0.2},
                            .memory_bytes = {1000, 2000}};
  return metrics;
}

std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("a Prometheus file describes every metric once, before its samples") {
  const std::string text =
      prometheus_text({.run = "a\\b\"c\n", .step = measured_step(), .times = measured_step().times});
  const std::regex help("# HELP (foretoken_[a-z_]+) [^\\n]+\\."),
      type("# TYPE (foretoken_[a-z_]+) (gauge|counter)"),
      sample(
          "(foretoken_[a-z_]+)\\{run=\"a\\\\\\\\b\\\\\"c[^\"\\n]*\"(,[a-z]+=\"[a-z0-9_]+\")?\\} "
          "([-+.e0-9]+|NaN|[-+]Inf)");
  std::set<std::string> described;
  std::string current;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    std::smatch match;
    if (std::regex_match(line, match, help)) {
      CHECK(described.insert(match[1]).second);
      current = match[1];
    } else if (std::regex_match(line, match, type)) {
      CHECK(match[1] == current);
      CHECK((match[2] == "counter") == current.ends_with("_total"));
    } else {
      REQUIRE(std::regex_match(line, match, sample));
      CHECK(match[1] == current);
    }
  }
  CHECK(described.size() > 10);
  CHECK_THAT(text, contains("depth=\"mtp2\"} 2.62\n") && contains("rank=\"1\"} 2000\n") &&
                       contains("kind=\"bubble\"} 0.15\n"));
}

TEST_CASE("numbers that are not finite are written as Prometheus spells them") {
  StepMetrics metrics = example_step(1);
  metrics.depth_losses = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()};
  CHECK_THAT(prometheus_text({.run = "r", .step = metrics}),
             contains("depth=\"main\"} NaN\n") && contains("depth=\"mtp1\"} +Inf\n"));
}

TEST_CASE("the file says when the run has ended, and a failed write is reported once") {
  const TemporaryFolder folder;
  int warnings = 0;
  MetricsOutputs outputs({.run = folder.path(), .prometheus = folder / "out.prom"},
                         [&](const std::string&) { ++warnings; });
  outputs.write(example_step(1));
  CHECK_THAT(read(folder / "out.prom"),
             contains("foretoken_running{run=\"" + folder.path().filename().string() + "\"} 1\n"));
  outputs.write(EndMetrics{.step = 1});
  CHECK_THAT(read(folder / "out.prom"), contains("\"} 0\n"));
  CHECK(warnings == 0);

  MetricsOutputs nowhere(
      {.run = folder.path(), .prometheus = folder / "missing" / "out.prom"}, [&](const std::string& text) {
        ++warnings;
        CHECK_THAT(text, contains("prometheus: ") && contains("out.prom: cannot be written"));
      });
  nowhere.write(example_step(2));
  nowhere.write(EndMetrics{.step = 2});
  CHECK(warnings == 1);
}

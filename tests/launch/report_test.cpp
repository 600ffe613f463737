// `foretoken report`: the page of runs that have everything, and of runs that lack something.
#include "launch/report/report.h"

#include <fstream>
#include <sstream>

#include "io/checkpoint/run_directory.h"
#include "launch/config/config_loader.h"
#include "launch/report/reported_run.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/example_metrics.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
using foretoken::testing::contains;
using foretoken::testing::example_step;

namespace {

std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

Config small_config() {
  Config config;
  config.model.num_hidden_layers = 4;
  config.parallel.pp = 2;
  config.train.global_batch = 8;
  return config;
}

/// A run of three steps, of which the second was traced on two ranks.
std::string make_run(const TemporaryFolder& folder, const std::string& name) {
  const RunDirectory run = RunDirectory::create_at((folder / name).string(), to_toml(small_config()));
  MetricsSink lines(run.metrics_path(), [](const std::string& text) { FAIL(text); });
  for (const int step : {1, 2, 3}) {
    StepMetrics metrics = example_step(step);
    metrics.times =
        StepTimes{.compute = 0.8, .bubble = 0.123, .compute_seconds = {1, 2}, .memory_bytes = {10, 20}};
    if (step == 2) metrics.checkpoint_seconds = 0.0608;  // a tenth of three steps of 182.4 ms and the wait
    lines.write(metrics);
  }
  const std::vector<TimelineSpan> first{{.lane = "compute", .name = "0F0", .begin = 0, .end = 1},
                                        {.lane = "compute", .name = "0B0", .begin = 3, .end = 5}},
      second{{.lane = "compute", .name = "1F0", .begin = 1, .end = 2},
             {.lane = "compute", .name = "1B0", .begin = 2, .end = 3}};
  const std::string events[] = {trace_events(0, "rank 0", first), trace_events(1, "rank 1", second)};
  write_trace(std::filesystem::path(run.path()) / "trace_00000002.json", events);
  return run.path();
}

}  // namespace

TEST_CASE("a report draws the traced step beside a simulated one with as much time in its actions") {
  const TemporaryFolder folder;
  const ReportedRun run = read_run(make_run(folder, "a"));
  CHECK(run.missing == std::vector<std::string>{});
  CHECK(run.traced_step == 2);
  REQUIRE(run.simulated);
  double time = 0;
  for (const std::vector<Span>& spans : run.simulated->timeline.ranks)
    for (const Span& span : spans) time += span.end - span.start;
  CHECK(time == Approx(1 + 2 + 1 + 1));
}

TEST_CASE("a report has several runs in one figure, and is a page without external parts") {
  const TemporaryFolder folder;
  const std::string a = make_run(folder, "a"), b = make_run(folder, "b<script>"),
                    page = (folder / "page.html").string();
  CHECK(write_run_page({.run = a, .compare = {b}, .output = page}) == 0);
  const std::string text = read(page);
  for (const char* what :
       {"Main training loss", "Depth 2 training loss", "Learning rate", "Gradient norm", "Throughput",
        "Largest memory of a rank", "Where the time goes", "a: step 2 as it was traced",
        "a: the step as simulated", ">12.3 %<", ">10.0 %<", "11.1", "b&lt;script&gt;"})
    CHECK_THAT(text, contains(what));
  for (const char* what : {"<script", "http://", "https://", "<h2>Missing"}) {
    const std::size_t found = text.find(what);
    const bool name_space =
        found != std::string::npos && text.compare(found, 26, "http://www.w3.org/2000/svg") == 0;
    CHECK((found == std::string::npos || name_space));
  }
}

TEST_CASE("a report names what a run lacks, and shows the rest") {
  const TemporaryFolder folder;
  const std::string a = make_run(folder, "a"), page = (folder / "page.html").string();
  std::ofstream(a + "/metrics.jsonl", std::ios::app) << "{\"kind\":\"step\"}\n{\"kind\":\"st";
  std::ofstream(a + "/trace_00000003.json") << "{}";
  const ReportedRun damaged = read_run(a);
  REQUIRE(damaged.missing.size() == 3);
  CHECK_THAT(damaged.missing[0], contains("ends inside a line"));
  CHECK_THAT(damaged.missing[1], contains("1 damaged line of metrics.jsonl left out"));
  CHECK_THAT(damaged.missing[2], contains("trace_00000003.json: is not a trace"));
  write_run_page({.run = a, .compare = {}, .output = page});
  CHECK_THAT(read(page), contains("<h2>Missing") && contains("is not a trace") && contains("Learning rate"));

  const RunDirectory empty = RunDirectory::create_at((folder / "empty").string(), to_toml(small_config()));
  CHECK_THAT(read_run(empty.path()).missing.at(0), contains("metrics.jsonl has no step"));
  CHECK_THAT(read_run(empty.path()).missing.at(1), contains("train.trace_step"));
  expect_error<DataError>("there is no such path", [&] { read_run((folder / "nothing").string()); });
}

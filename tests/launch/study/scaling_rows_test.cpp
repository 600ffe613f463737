// The rows, figures and page of a scaling study.
#include "launch/study/scaling_rows.h"

#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "io/files/sealed_text.h"
#include "launch/study/study_plan.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/xml.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// A study of 1, 2 and 4 ranks with three repeats and two warm-up steps; 3 ranks are illegal.
struct Lab {
  TemporaryFolder folder;
  Sweep sweep;

  Lab() {
    folder.write("sweep.toml", R"([data]
path = "d.h5"
[train]
steps = 5
global_batch = 16
microbatch = 2
[optimizer]
warmup_steps = 0
[scaling]
mode = "strong"
ranks = [1, 2, 3, 4]
projected_ranks = [8]
warmup_steps = 2
)");
    sweep = read_sweep((folder / "sweep.toml").string(), {}, {});
    sweep.directory = folder.path().string();
  }

  void run(const std::string& name, double rate, int code = 0, const std::string& host = "") const {
    std::string lines;
    for (int step = 1; step <= 5; ++step)
      lines += fmt::format(
          R"({{"kind": "step", "step": {0}, "main_loss": 5, "tokens_seen": {0}, "milliseconds": {1}, "tokens_per_second": {2}, "compute_share": 0.5, "bubble": 0.25, "exposed_communication": 0.125, "optimizer_share": 0.0625, "data_share": 0, "checkpoint_seconds": {3}}})"
          "\n",
          step, step <= 2 ? 1e6 : 1000.0, step <= 2 ? 1 : rate, step == 4 ? 0.3 : 0);
    lines += R"({"kind": "end", "step": 5, "seconds": 2003.5, "peak_memory_bytes": 1048576})"
             "\n";
    folder.write(name + "/run/metrics.jsonl", lines);
    if (!host.empty())
      folder.write(
          name + "/run/machine.json",
          sealed_line(
              R"({"versions":{"MPI":"Open MPI v4.1.4","commit":"0335df8+"},"transport":"","hosts":[)" + host +
              "]}") +
              "\n");
    write_outcome((folder / name).string(),
                  {.exit_code = code, .seconds = 7.25, .reason = code == 0 ? "" : "[rank 1] a fault"});
  }

  std::vector<PointResult> results() const {
    std::vector<PointResult> all;
    for (const SweepPoint& point : sweep.points) all.push_back(result_of(sweep, point));
    return all;
  }
};

const std::string shared = R"({"name":"a","ranks":4,"threads":4,"cores":2,"device":"cpu","devices":1})";

}  // namespace

TEST_CASE("a row has the median of its repeats without warm-up, and the speed-up over the fewest ranks") {
  const Lab lab;
  const double rates[] = {90, 130, 100};
  for (int repeat = 1; repeat <= 3; ++repeat) {
    lab.run(fmt::format("ranks=1,repeat={}", repeat), rates[repeat - 1]);
    lab.run(fmt::format("ranks=4,repeat={}", repeat), 300 + repeat, repeat == 2 ? 4 : 0, shared);
  }
  const std::vector<PointResult> results = lab.results();
  const std::vector<ScalingRow> rows = scaling_rows(lab.sweep, results);
  REQUIRE(rows.size() == 5);
  CHECK(rows[0].tokens_per_second->median == 100);
  CHECK(rows[0].tokens_per_second->lowest == 90);
  CHECK(rows[0].tokens_per_second->highest == 130);
  CHECK(rows[0].speedup == 1.0);
  CHECK(rows[0].status == "done");
  CHECK(rows[1].status == "not run");
  CHECK_FALSE(rows[1].speedup.has_value());
  CHECK(rows[2].status == "illegal");
  CHECK_FALSE(rows[2].reason.empty());
  CHECK(rows[3].status == "2 of 3 done");
  CHECK(rows[3].reason == "[rank 1] a fault");
  CHECK(rows[3].tokens_per_second->median == 302);  // of 301 and 303
  CHECK(rows[3].speedup == Approx(3.02));
  CHECK(rows[3].efficiency == Approx(0.755));
  CHECK(rows[3].sharing == "4 ranks on 2 cores");
  CHECK(rows[0].sharing.empty());
  CHECK(rows[4].status == "projected");
}

TEST_CASE("planned steps stand beside measured ones, and their speed-up is relative to the plan") {
  Lab lab;
  lab.run("ranks=1,repeat=1", 100);
  plan_points(lab.sweep);
  const std::vector<PointResult> results = lab.results();
  const std::vector<ScalingRow> rows = scaling_rows(lab.sweep, results);
  REQUIRE(rows.size() == 5);
  REQUIRE(rows[0].planned().has_value());
  const PlannedStep& step = *rows[0].planned();
  CHECK(step.total == Approx(step.compute + step.bubble + step.communication + step.optimizer));
  CHECK(step.tokens_per_second * step.total / 1e3 == Approx(16 * 128));  // tokens of a step
  CHECK(step.memory_bytes > 1e6);
  CHECK(rows[0].planned_speedup == 1.0);
  CHECK(rows[0].layout == "pp 1 × dp 1 × v 1, 1f1b");
  CHECK_FALSE(rows[2].planned().has_value());  // illegal
  REQUIRE(rows[4].planned().has_value());
  CHECK(rows[4].planned_speedup == Approx(rows[4].planned()->tokens_per_second / step.tokens_per_second));
  CHECK(rows[4].planned_efficiency == Approx(*rows[4].planned_speedup / 8));
  CHECK_FALSE(rows[4].speedup.has_value());
}

TEST_CASE("a plan that finds no memory is a reason, not an error") {
  Lab lab;
  lab.sweep.scaling->device = "h100";
  for (SweepPoint& point : lab.sweep.points) point.config.model.hidden_size = 1 << 20;
  plan_points(lab.sweep);
  CHECK_FALSE(lab.sweep.points[0].planned.has_value());
  CHECK_FALSE(lab.sweep.points[0].unplanned.empty());
  lab.sweep.scaling->device = "h300";
  expect_error<UsageError>("scaling.device: expected one of h100, h200, cpu, found \"h300\"",
                           [&] { plan_points(lab.sweep); });
}

TEST_CASE("the parts of a row's time add up to the time of a step and of the wait for checkpoints") {
  const Lab lab;
  lab.run("ranks=1,repeat=1", 100);
  const std::vector<PointResult> results = lab.results();
  const std::vector<ScalingRow> rows = scaling_rows(lab.sweep, results);
  std::vector<std::string> parts;
  for (const TimePart& part : rows[0].time)
    parts.push_back(fmt::format("{} {}", part.name, part.milliseconds));
  // 0.3 s for a save between 3 measured steps.
  CHECK(parts == std::vector<std::string>{"compute 500", "bubble 250", "exposed communication 125",
                                          "optimizer 62.5", "data 0", "other 62.5", "checkpoint 100"});
}

TEST_CASE("ranks share GPUs or cores if they have fewer than ranks or threads") {
  const auto sharing = [](MachineRecord::Host host) { return MachineRecord{.hosts = {host}}.sharing(); };
  CHECK(sharing({.ranks = 2, .threads = 2, .cores = 2, .device = "cpu", .devices = 1}).empty());
  CHECK(sharing({.ranks = 2, .threads = 8, .cores = 4, .device = "cpu", .devices = 1}) ==
        "8 threads of 2 ranks on 4 cores");
  CHECK(sharing({.ranks = 2, .threads = 8, .cores = 4, .device = "NVIDIA H100", .devices = 2}).empty());
  CHECK(sharing({.ranks = 2, .threads = 8, .cores = 16, .device = "NVIDIA H100", .devices = 1}) ==
        "2 ranks on 1 GPU");
}

TEST_CASE("each way of sharing has a mark of its own") {
  std::vector<ScalingRow> rows(4);
  rows[1].sharing = rows[3].sharing = "4 ranks on 2 cores";
  rows[2].sharing = "2 ranks on 1 GPU";
  const SharingMarks marks(rows);
  CHECK(marks.of(rows[0]).empty());
  CHECK(marks.of(rows[1]) == "*");
  CHECK(marks.of(rows[2]) == "†");
  CHECK(marks.of(rows[3]) == "*");
  CHECK(marks.notes() == std::vector<std::string>{"* 4 ranks on 2 cores", "† 2 ranks on 1 GPU"});
}

TEST_CASE("tables, figures and page of a scaling study mark shared cores and show reasons") {
  const Lab lab;
  for (int repeat = 1; repeat <= 3; ++repeat) {
    lab.run(fmt::format("ranks=1,repeat={}", repeat), 100);
    lab.run(fmt::format("ranks=4,repeat={}", repeat), 300, 0, shared);
  }
  write_report(lab.sweep, (lab.folder / "sweep.toml").string());
  const auto text_of = [&](const char* name) {
    std::ifstream file(lab.folder / name);
    return std::string{std::istreambuf_iterator<char>(file), {}};
  };
  const std::string page = text_of("study.html");
  CHECK(xml_error(page) == "");
  CHECK_THAT(page, contains("Strong scaling") && contains("* 4 ranks on 2 cores") && contains(">4*<") &&
                       contains("3.00×") && contains("75 %") && contains("6 of 9 points done, 1 illegal") &&
                       contains("after the first 2, which are left out"));
  std::vector<std::string> names;
  for (const Figure& figure : scaling_figures(lab.sweep, lab.results())) {
    names.push_back(figure.name);
    CHECK_THAT(figure.svg, contains("* 4 ranks on 2 cores"));
    CHECK_THAT(figure.svg, figure.section == "Scaling" ? contains(">*</text>") : contains(">4*</text>"));
  }
  CHECK(names == std::vector<std::string>{"speedup", "efficiency", "tokens_per_rank", "time", "memory"});
  CHECK_THAT(text_of("scaling.csv"),
             contains(",4 ranks on 2 cores,300,300,300,75,1000,1000,1000,3,0.75,ranks=1,"));
  CHECK_THAT(text_of("study.csv"),
             contains("Open MPI v4.1.4") && contains("0335df8+") && contains("illegal"));
}

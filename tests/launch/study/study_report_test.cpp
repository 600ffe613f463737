// A study's report on points that have run, failed, or not started.
#include "launch/study/study_report.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "io/report/metrics.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/xml.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// A study of four points: without heads on one and on two ranks, one depth on two ranks, and one that has
/// not started.
struct Lab {
  TemporaryFolder folder;
  Sweep sweep;

  Lab() {
    folder.write("sweep.toml", R"([study]
directory = "unused"
[data]
path = "d.h5"
[axes]
ranks = [1, 2]
mtp.depths = [0, 1]
)");
    sweep = read_sweep((folder / "sweep.toml").string(), {}, {});
    sweep.directory = folder.path().string();
    run("ranks=1,depths=0", "", 0, 100);
    run("ranks=2,depths=0", "", 0, 180);
    run("ranks=2,depths=1", R"(, "mtp1_loss": 3, "mtp1_acceptance": 0.25, "accepted_length": 1.25)", 4, 90);
  }

  void run(const std::string& name, const std::string& heads, int code, double rate) const {
    std::string lines;
    for (int step = 1; step <= 10; ++step)
      lines += fmt::format(
          R"({{"kind": "step", "step": {0}, "main_loss": {1}{2}, "tokens_seen": {3}, "milliseconds": 500, "tokens_per_second": {4}}})"
          "\n",
          step, 5.0 - 0.1 * step, heads, 64 * step, step == 1 ? 1 : rate);
    for (const int step : {0, 5, 10})
      lines += fmt::format(R"({{"kind": "evaluation", "step": {}, "main_loss": {}{}}})"
                           "\n",
                           step, step == 5 ? 2.5 : 6.0 - 0.3 * step, heads);
    lines += R"({"kind": "end", "step": 10, "seconds": 5, "peak_memory_bytes": 1073741824})"
             "\n";
    folder.write(name + "/run/metrics.jsonl", lines);
    write_outcome((folder / name).string(), {.exit_code = code, .seconds = 7.25});
  }

  std::vector<PointResult> results() const {
    std::vector<PointResult> all;
    for (const SweepPoint& point : sweep.points) all.push_back(result_of(sweep, point));
    return all;
  }
};

}  // namespace

TEST_CASE("a point's baseline is the point without heads that shares its other settings") {
  const Lab lab;
  const std::vector<PointResult> results = lab.results();
  REQUIRE(results.size() == 4);
  const PointResult& one = results[3];
  CHECK(one.point->name == "ranks=2,depths=1");
  CHECK(baseline_of(one, lab.sweep, results)->point->name == "ranks=2,depths=0");
  CHECK(baseline_of(results[0], lab.sweep, results)->point->name == "ranks=1,depths=0");
  CHECK(one.status() == "failed (4)");
  CHECK(one.tokens_per_second == 90);
  CHECK(one.final_loss(0) == Approx(3.0));
  CHECK(one.best_loss(0) == Approx(2.5));
  CHECK_FALSE(one.final_loss(2).has_value());
  CHECK(results[1].status() == "not run");
  CHECK(summary(one) == "main 3.0000, 90 tok/s");
}

TEST_CASE("the table has a row per point, and empty fields for unknown values") {
  const Lab lab;
  const std::string csv = study_csv(lab.sweep, lab.results());
  CHECK(csv.substr(0, csv.find('\n')) ==
        "point,mtp.depths,ranks,status,reason,exit_code,seconds,parameters,steps,tokens,final_main_loss,"
        "final_mtp1_loss,best_main_loss,best_mtp1_loss,mtp1_acceptance,accepted_length,tokens_per_second,"
        "milliseconds_per_step,peak_memory_bytes");
  CHECK_THAT(csv, contains("\n\"ranks=1,depths=1\",1,1,not run,,,,") && contains(",0,0,,,,,,,,,\n"));
  CHECK_THAT(csv, contains(",failed (4),,4,7.2,") &&
                      contains(",10,640,3,3,2.5,3,0.25,1.25,90.0,500.000,1073741824\n"));
}

TEST_CASE("the page shows acceptance if it was measured, and costs relative to the baseline") {
  const Lab lab;
  write_report(lab.sweep, (lab.folder / "sweep.toml").string());
  std::ifstream file(lab.folder / "study.html");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  CHECK(xml_error(page) == "");
  CHECK_THAT(page, contains("Acceptance by depth") && contains("0.50 (90 tok/s)") &&
                       contains("1.00 (1.00 GiB)") && contains("ranks = [1, 2]") &&
                       contains("2 of 4 points done"));
  // Every cell repeats its heading, because narrow screens show rows as cards.
  CHECK_THAT(page, contains(R"(<td data-label="status" class="bad">failed (4)</td>)") &&
                       contains(R"(<td data-label="time">7s</td>)") && contains("<th>time</th></tr>") &&
                       contains("prefers-color-scheme: dark"));
  std::vector<std::string> names;
  for (const Figure& figure : study_figures(lab.sweep, lab.results())) names.push_back(figure.name);
  CHECK(names == std::vector<std::string>{"main_loss_tokens", "main_loss_time", "main_loss_change",
                                          "training_loss_tokens", "loss_by_depth", "mtp1_loss_tokens",
                                          "acceptance", "accepted_length", "throughput", "memory", "targets",
                                          "targets_per_second"});
}

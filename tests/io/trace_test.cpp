// Traces: the file for Perfetto, and the share of communication that is hidden by compute.
#include "io/report/trace.h"

#include <cmath>
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
using Kind = TimelineSpan::Kind;

namespace {

std::vector<TimelineSpan> example() {
  return {{Kind::compute, "compute", "0F0", 0.0, 1.0},
          {Kind::communication, "pipeline: send, rank 1", "send 8.4 MB", 0.75, 1.5},
          {Kind::compute, "compute", "0F1", 1.25, 2.0},
          {Kind::receive, "pipeline: receive, rank 1", "receive 8.4 MB", 0.0, 3.0},
          {Kind::communication, "dp", "all-reduce 26.2 MB", 1.25, 1.75},
          {Kind::compute, "compute", "0B0", 3.0, 4.0}};
}

}  // namespace

TEST_CASE("overlap is the time in which both communication and compute run, each second counted once") {
  const TraceOverlap overlap = overlap_of(example());
  CHECK(overlap.length == 4.0);
  CHECK(overlap.compute == 1.0 + 0.75 + 1.0);
  CHECK(overlap.communication == 1.0);  // 0.75 to 1.75
  CHECK(overlap.hidden == 0.25 + 0.5);  // 0.75 to 1.0 and 1.25 to 1.75: nothing is computed from 1.0 to 1.25
  CHECK(overlap_of({}).length == 0);
}

TEST_CASE("a trace is read back with its ranks, lanes and times") {
  const TemporaryFolder folder;
  const std::vector<TimelineSpan> spans = example();
  const std::string events[] = {trace_events(0, "rank 0", {}), trace_events(3, "rank 3", spans)};
  write_trace(folder / "trace.json", events);
  const std::vector<TracedRank> ranks = read_trace(folder / "trace.json");
  REQUIRE(ranks.size() == 1);
  CHECK(ranks[0].rank == 3);
  REQUIRE(ranks[0].spans.size() == spans.size());
  for (std::size_t i = 0; i < spans.size(); ++i) {
    CHECK(ranks[0].spans[i].kind == spans[i].kind);
    CHECK(ranks[0].spans[i].lane == spans[i].lane);
    CHECK(ranks[0].spans[i].name == spans[i].name);
    CHECK(ranks[0].spans[i].begin == Approx(spans[i].begin));
    CHECK(ranks[0].spans[i].end == Approx(spans[i].end));
  }
  for (const char* text : {"", "[]", "{\"traceEvents\": [{\"ph\": \"X\"}]}"}) {
    folder.write("wrong.json", text);
    CHECK_THROWS_AS(read_trace(folder / "wrong.json"), DataError);
  }
}

TEST_CASE("a trace holds every rank's lanes and spans in Chrome's format") {
  const TemporaryFolder folder;
  const std::vector<std::string> events{trace_events(0, "rank 0: pp0 dp0", example()),
                                        trace_events(1, "rank 1: \"pp1\"", {})};
  write_trace(folder / "trace.json", events);
  std::ifstream file(folder / "trace.json");
  const nlohmann::json trace = nlohmann::json::parse(file);

  std::map<std::pair<int, int>, std::string> lanes;
  std::map<int, std::string> ranks;
  for (const nlohmann::json& event : trace.at("traceEvents")) {
    if (event.at("ph") != "M") continue;
    const std::string name = event.at("args").at("name");
    if (event.at("name") == "process_name") ranks[event.at("pid")] = name;
    if (event.at("name") == "thread_name") lanes[{event.at("pid"), event.at("tid")}] = name;
  }
  CHECK(ranks == std::map<int, std::string>{{0, "rank 0: pp0 dp0"}, {1, "rank 1: \"pp1\""}});

  std::vector<TimelineSpan> spans;
  for (const nlohmann::json& event : trace.at("traceEvents"))
    if (event.at("ph") == "X")
      spans.push_back({event.at("cat") == "compute"   ? Kind::compute
                       : event.at("cat") == "receive" ? Kind::receive
                                                      : Kind::communication,
                       lanes.at({event.at("pid"), event.at("tid")}), event.at("name"),
                       event.at("ts").get<double>() / 1e6,
                       (event.at("ts").get<double>() + event.at("dur").get<double>()) / 1e6});
  REQUIRE(spans.size() == example().size());
  for (std::size_t i = 0; i < spans.size(); ++i) {
    CHECK(spans[i].kind == example()[i].kind);
    CHECK(spans[i].lane == example()[i].lane);
    CHECK(spans[i].name == example()[i].name);
    CHECK(std::abs(spans[i].begin - example()[i].begin) < 1e-9);
    CHECK(std::abs(spans[i].end - example()[i].end) < 1e-9);
  }
}

TEST_CASE("a trace that cannot be written is an error that names it") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(write_trace(folder / "none" / "trace.json", {}),
                    testing::contains("trace.json: cannot be written: No such file"));
}

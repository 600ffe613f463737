#include "parallel/flight/flight_recorder.h"

#include <thread>

#include "parallel/polling.h"
#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;
using Kind = FlightRecorder::Kind;

TEST_CASE("the flight recorder keeps the last operations, oldest first") {
  FlightRecorder recorder(3);
  CHECK(recorder.record().operations.empty());
  const int channel = recorder.add_channel("dp of pp0", {0, 1});
  for (std::uint64_t bytes = 0; bytes < 5; ++bytes)
    CHECK(recorder.start("send", channel, Kind::send, bytes, 1, 0) == bytes);
  recorder.finish(0);  // a later operation has replaced operation 0 and must not be marked finished
  recorder.finish(4);
  const FlightRecord record = recorder.record();
  REQUIRE(record.operations.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(record.operations[i].bytes == i + 2);
  CHECK(record.operations[0].finished < 0);
  CHECK(record.operations[1].finished < 0);
  CHECK(record.operations[2].finished >= record.operations[2].started);
  CHECK_THROWS_AS(FlightRecorder(0), DefectError);
}

TEST_CASE("operations are numbered by channel, messages by direction, peer and tag") {
  FlightRecorder recorder;
  const int dp = recorder.add_channel("dp", {0, 1}), pipeline = recorder.add_channel("pipeline", {0, 2});
  recorder.start("all-reduce", dp, Kind::collective, 4);
  recorder.start("send", pipeline, Kind::send, 4, 1, 0);
  recorder.start("receive", pipeline, Kind::receive, 4, 1, 0);
  recorder.start("send", pipeline, Kind::send, 4, 1, 2);
  recorder.start("send", pipeline, Kind::send, 4, 1, 0);
  recorder.start("barrier", dp, Kind::collective, 0);
  const FlightRecord record = recorder.record();
  std::vector<std::uint64_t> sequences;
  for (const auto& operation : record.operations) sequences.push_back(operation.sequence);
  CHECK(sequences == std::vector<std::uint64_t>{0, 0, 0, 0, 1, 1});
  CHECK(record.channels[0].collectives == 2);
  CHECK(record.channels[1].collectives == 0);
  CHECK(record.messages.at({.channel = pipeline, .kind = Kind::send, .peer = 1, .tag = 0}) == 2);
  CHECK(record.messages.at({.channel = pipeline, .kind = Kind::receive, .peer = 1, .tag = 0}) == 1);
}

TEST_CASE("channels with the same name are distinguished") {
  FlightRecorder recorder;
  recorder.add_channel("world", {0, 1});
  recorder.add_channel("world", {0, 1});
  recorder.add_channel("world", {0, 1});
  const FlightRecord record = recorder.record();
  CHECK(record.channels[1].name == "world (2)");
  CHECK(record.channels[2].name == "world (3)");
}

TEST_CASE("a wait is recorded while it lasts, and after an exception has ended it") {
  FlightRecorder recorder;
  const int channel = recorder.add_channel("world", {0, 1});
  const std::uint64_t number = recorder.start("barrier", channel, Kind::collective, 0);
  CHECK(!recorder.overdue());
  {
    const FlightRecorder::Wait wait(recorder, number, Seconds(1000));
    REQUIRE(recorder.record().waiting);
    CHECK(recorder.record().waiting->number == number);
    CHECK(*recorder.overdue() < 0);
  }
  CHECK(!recorder.record().waiting);
  try {
    const FlightRecorder::Wait wait(recorder, FlightRecorder::oldest_unfinished, Seconds(0));
    throw PeerError("a time-out");
  } catch (const PeerError&) {
  }
  REQUIRE(recorder.record().waiting);
  CHECK(recorder.record().waiting->number == number);
  CHECK(*recorder.overdue() >= 0);
}

TEST_CASE("another thread may take a record") {
  FlightRecorder recorder(16);
  const int channel = recorder.add_channel("world", {0, 1});
  std::thread rank([&] {
    for (int i = 0; i < 2000; ++i) {
      const std::uint64_t number = recorder.start("barrier", channel, Kind::collective, 0);
      const FlightRecorder::Wait wait(recorder, number, Seconds(1));
      recorder.finish(number);
    }
  });
  std::uint64_t last = 0;
  for (int i = 0; i < 200; ++i) {
    const FlightRecord record = recorder.record();
    if (record.operations.empty()) continue;
    CHECK(record.operations.back().number >= last);
    last = record.operations.back().number;
  }
  rank.join();
  CHECK(recorder.record().channels[0].collectives == 2000);
}

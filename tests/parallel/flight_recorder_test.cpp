#include "parallel/flight_recorder.h"

#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE("the flight recorder keeps the last entries, oldest first") {
  FlightRecorder recorder(3);
  CHECK(recorder.entries().empty());
  for (std::uint64_t bytes = 0; bytes < 5; ++bytes)
    CHECK(recorder.start("send", "dp of pp0", bytes, 1) == bytes);
  recorder.finish(0);  // no longer kept: no other entry may end in its place
  recorder.finish(4);
  const auto entries = recorder.entries();
  REQUIRE(entries.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(entries[i].bytes == i + 2);
  CHECK(entries[0].finished < 0);
  CHECK(entries[1].finished < 0);
  CHECK(entries[2].finished >= entries[2].started);
  CHECK_THROWS_AS(FlightRecorder(0), DefectError);
}

TEST_CASE("a communicator's name is cut to fit") {
  FlightRecorder recorder;
  recorder.start("send", std::string(100, 'x'), 0, 0);
  CHECK(std::string(recorder.entries()[0].communicator.data()) == std::string(31, 'x'));
}

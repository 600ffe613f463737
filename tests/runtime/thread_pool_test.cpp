#include "runtime/host/thread_pool.h"

#include <atomic>
#include <stdexcept>
#include <vector>

#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE("ranges of a pool's threads cover every item once and keep to the grain") {
  ThreadPool pool(GENERATE(1, 2, 3, 8));
  CAPTURE(pool.threads());
  // Calls that need all threads alternate with calls that need few. Threads may still be leaving the previous
  // call when the next one starts.
  for (int call = 0; call < 2000; ++call) {
    const std::int64_t count = call % 13 * (call % 3), grain = 1 + call % 5;
    std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
    std::atomic<bool> short_range = false;
    pool.parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
      if (end < count && end - begin < grain) short_range = true;
      for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
    });
    for (const auto& visit : visits)
      if (visit != 1) FAIL("an item of " << count << " by " << grain << " was visited " << visit << " times");
    if (short_range) FAIL("a range of " << count << " by " << grain << " is too short");
  }
}

TEST_CASE("a range of a pool's threads that throws ends the call, and the pool goes on") {
  ThreadPool pool(4);
  for (int thrower = 0; thrower < 4; ++thrower) {
    CHECK_THROWS_AS(pool.parallel_for(4, 1,
                                      [&](std::int64_t begin, std::int64_t) {
                                        if (begin == thrower) throw std::runtime_error("range");
                                      }),
                    std::runtime_error);
    std::atomic<int> items = 0;
    pool.parallel_for(4, 1, [&](std::int64_t begin, std::int64_t end) { items += int(end - begin); });
    CHECK(items == 4);
  }
}

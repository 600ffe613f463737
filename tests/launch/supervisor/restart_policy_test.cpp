#include "launch/supervisor/restart_policy.h"

#include "tests/support/catch.h"

using namespace foretoken;

namespace {

constexpr int killed = 128 + 9;

bool is_started_again(int code) {
  return RestartPolicy(3, -1).after({.code = code, .step = 5}).again;
}

}  // namespace

TEST_CASE("a run that is done, or whose configuration or data is invalid, is not restarted") {
  for (const int code : {0, 2, 3, 127}) {
    const Decision decision = RestartPolicy(3, -1).after({.code = code, .step = 5});
    CHECK_FALSE(decision.again);
    CHECK(decision.code == code);
  }
}

TEST_CASE("a run that a silent job on another host held is restarted, and finally ends with code 2") {
  RestartPolicy policy(1, -1);
  CHECK(policy.after({.code = 2, .run_was_held = true}).again);
  const Decision last = policy.after({.code = 2, .run_was_held = true});
  CHECK_FALSE(last.again);
  CHECK(last.code == 2);
}

TEST_CASE("a run is restarted after a lost peer, a signal, lack of memory or a launcher's own code") {
  for (const int code : {5, killed, 128 + 15, 139, 213, 75}) {
    INFO("code " << code);
    CHECK(is_started_again(code));
  }
}

TEST_CASE("a run with a stop request ends with 75, unless its error would return") {
  for (const int code : {75, 5, killed}) {
    const Decision decision = RestartPolicy(3, -1).after({.code = code, .step = 5, .stop_requested = true});
    CHECK_FALSE(decision.again);
    CHECK(decision.code == 75);
  }
  for (const int code : {0, 1, 2, 3, 4})
    CHECK(RestartPolicy(3, -1).after({.code = code, .step = 5, .stop_requested = true}).code == code);
}

TEST_CASE("a run ends after K consecutive restarts without a newer checkpoint") {
  RestartPolicy policy(2, 10);
  CHECK(policy.after({.code = 5, .step = 10}).again);
  CHECK(policy.after({.code = killed, .step = 10}).again);
  CHECK(policy.after({.code = 5, .step = 20}).again);  // the newer checkpoint resets the count
  CHECK(policy.after({.code = 5, .step = 20}).again);
  const Decision last = policy.after({.code = killed, .step = 20});
  CHECK_FALSE(last.again);
  CHECK(last.code == killed);
  CHECK_FALSE(RestartPolicy(0, -1).after({.code = 5, .step = -1}).again);
}

TEST_CASE("a defect or a numerical failure gets one more attempt, and another after each newer checkpoint") {
  for (const int code : {1, 4}) {
    RestartPolicy policy(5, 10);
    CHECK(policy.after({.code = code, .step = 10}).again);
    const Decision again = policy.after({.code = code, .step = 10});
    CHECK_FALSE(again.again);
    CHECK(again.code == code);

    RestartPolicy moving(5, 10);
    CHECK(moving.after({.code = code, .step = 20}).again);
    CHECK(moving.after({.code = code, .step = 30}).again);
    CHECK_FALSE(moving.after({.code = code, .step = 30}).again);
  }
}

TEST_CASE("the pause doubles with each restart without a newer checkpoint, up to a minute") {
  RestartPolicy policy(20, 10);
  std::vector<std::int64_t> pauses;
  for (int i = 0; i < 9; ++i) pauses.push_back(policy.after({.code = 5, .step = 10}).pause.count());
  CHECK(pauses == std::vector<std::int64_t>{1, 2, 4, 8, 16, 32, 60, 60, 60});
  CHECK(policy.after({.code = 5, .step = 11}).pause.count() == 1);
}

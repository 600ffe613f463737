#include "launch/supervisor/restart_policy.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

constexpr int command_not_found = 127;
constexpr std::int64_t longest_pause = 60;  // seconds

bool is(int code, ExitCode expected) {
  return code == static_cast<int>(expected);
}

/// Whether another attempt would end in the same way.
bool is_final(int code) {
  return is(code, ExitCode::usage) || is(code, ExitCode::data) || code == command_not_found;
}

bool gets_one_more(int code) {
  return is(code, ExitCode::defect) || is(code, ExitCode::numerical);
}

}  // namespace

Decision RestartPolicy::after(const AttemptEnd& end) {
  const auto ends = [](int code, std::string reason) {
    return Decision{.again = false, .code = code, .pause = {}, .reason = std::move(reason)};
  };
  if (end.code == 0) return ends(0, "done");
  if (is_final(end.code) && !end.run_was_held)
    return ends(end.code, fmt::format("code {} would be the same after a restart", end.code));
  if (end.stop_requested && gets_one_more(end.code)) return ends(end.code, "a stop was requested");
  if (end.stop_requested) return ends(static_cast<int>(ExitCode::resumable), "a stop was requested");

  const bool progress = end.step > step_;
  step_ = end.step;
  if (progress) {
    restarts_ = 0;
    second_try_ = false;
  }
  if (gets_one_more(end.code)) {
    if (second_try_) return ends(end.code, fmt::format("code {} twice without a newer checkpoint", end.code));
    second_try_ = true;
  }
  if (restarts_ >= max_restarts_)
    return ends(end.code,
                fmt::format("{} in a row without a newer checkpoint", counted(restarts_, "restart")));
  const std::int64_t pause = std::min(std::int64_t{1} << std::min(restarts_, 10), longest_pause);
  ++restarts_;
  return {
      .again = true,
      .code = end.code,
      .pause = std::chrono::seconds(pause),
      .reason = fmt::format("restart {} of at most {} without a newer checkpoint", restarts_, max_restarts_)};
}

}  // namespace foretoken

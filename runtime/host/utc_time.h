#pragma once
// The current time as files and logs record it.

#include <ctime>
#include <string>

#include <fmt/chrono.h>

namespace foretoken {

/// Example: "2026-11-28T19:15:30Z" (ISO 8601, UTC).
inline std::string utc_time() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

}  // namespace foretoken

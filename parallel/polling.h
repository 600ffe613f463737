#pragma once
// Waiting for others without keeping a core from them: ranks may share cores.

#include <algorithm>
#include <chrono>
#include <thread>

namespace foretoken {

using Seconds = std::chrono::duration<double>;

/// Calls done() until it says true; false after the limit. Yields at first, for a peer that is nearly there,
/// then sleeps 5 µs, doubling to 100 µs.
template <class Done>
bool poll_until(Seconds limit, Done&& done) {
  constexpr int yields = 32;
  constexpr std::chrono::microseconds shortest{5}, longest{100};

  for (int i = 0; i < yields; ++i) {
    if (done()) return true;
    std::this_thread::yield();
  }
  const auto begin = std::chrono::steady_clock::now();
  auto pause = shortest;
  while (!done()) {
    if (std::chrono::steady_clock::now() - begin > limit) return false;
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, longest);
  }
  return true;
}

}  // namespace foretoken

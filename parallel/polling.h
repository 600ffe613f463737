#pragma once
// Waits for other ranks without occupying a core, because ranks may share cores.

#include <algorithm>
#include <chrono>
#include <thread>

namespace foretoken {

using Seconds = std::chrono::duration<double>;

/// Calls done() until it returns true; returns false after the limit. Between calls it yields at first,
/// because a peer may arrive soon. Later it sleeps for 5 µs, and the pause doubles up to 100 µs.
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

#pragma once
// Counter-based random numbers: every number is a pure function of (seed, stream name, index), so initial
// weights, data order and sampling do not depend on the layout, and a resumed run needs no generator state.
// Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

#include <array>
#include <cstdint>
#include <string_view>

namespace foretoken {

class CounterRng {
 public:
  /// Two generators with the same seed and name give the same numbers, any other pair independent ones.
  CounterRng(std::uint64_t seed, std::string_view name);

  /// Four independent 32-bit words for counter `index`.
  std::array<std::uint32_t, 4> block(std::uint64_t index) const;
  std::uint64_t u64(std::uint64_t index) const;
  /// Uniform in [0, 1), 53 bits.
  double uniform(std::uint64_t index) const;
  /// Standard normal by Box-Muller.
  double normal(std::uint64_t index) const;

 private:
  std::array<std::uint32_t, 2> key_;
  std::uint64_t name_hash_;
};

/// 64-bit FNV-1a of a name, stable across platforms and releases.
std::uint64_t hash_name(std::string_view name);
/// A bijective mixing of 64 bits (splitmix64's finaliser).
std::uint64_t mix64(std::uint64_t x);

}  // namespace foretoken

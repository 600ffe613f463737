#include "runtime/random.h"

#include <cmath>
#include <numbers>

namespace foretoken {

std::uint64_t hash_name(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

CounterRng::CounterRng(std::uint64_t seed, std::string_view name)
    : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)},
      name_hash_(mix64(hash_name(name))) {}

std::uint64_t CounterRng::u64(std::uint64_t index) const {
  const auto words = block(index);
  return (std::uint64_t{words[1]} << 32) | words[0];
}

double CounterRng::uniform(std::uint64_t index) const {
  return static_cast<double>(u64(index) >> 11) * 0x1p-53;
}

double CounterRng::normal(std::uint64_t index) const {
  const auto words = block(index);
  const double u = (static_cast<double>(words[0]) + 0.5) * 0x1p-32;
  const double v = (static_cast<double>(words[1]) + 0.5) * 0x1p-32;
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

}  // namespace foretoken

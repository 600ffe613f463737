#include "runtime/random.h"

#include <cmath>
#include <numbers>

namespace foretoken {

std::uint64_t hash_name(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

std::uint64_t mix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

CounterRng::CounterRng(std::uint64_t seed, std::string_view name)
    : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)},
      name_hash_(mix64(hash_name(name))) {}

std::array<std::uint32_t, 4> CounterRng::block(std::uint64_t index) const {
  std::array<std::uint32_t, 4> x{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                                 static_cast<std::uint32_t>(name_hash_),
                                 static_cast<std::uint32_t>(name_hash_ >> 32)};
  std::array<std::uint32_t, 2> key = key_;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * x[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * x[2];
    x = {static_cast<std::uint32_t>(b >> 32) ^ x[1] ^ key[0], static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ x[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return x;
}

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

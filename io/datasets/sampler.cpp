#include "io/datasets/sampler.h"

#include <bit>

#include "runtime/error.h"
#include "runtime/random.h"

namespace foretoken {

namespace {

constexpr int feistel_rounds = 8;

std::int64_t count_samples(std::string_view source, std::int64_t tokens, const RowShape& row) {
  if (row.positions < 1 || row.look_ahead < 0)
    throw UsageError("row: {} positions with a look-ahead of {}, expected at least 1 and 0", row.positions,
                     row.look_ahead);
  const std::int64_t samples = (tokens - 1 - row.look_ahead) / row.positions;
  if (tokens - 1 - row.look_ahead < row.positions)
    throw DataError(
        "{}: text shorter than a row: {} tokens, a row of {} positions + 1 + {} of look-ahead needs {}",
        source, tokens, row.positions, row.look_ahead, row.tokens());
  return samples;
}

}  // namespace

Permutation::Permutation(std::int64_t size, std::uint64_t key)
    : size_(static_cast<std::uint64_t>(size)), key_(key), half_bits_((std::bit_width(size_ - 1) + 1) / 2) {
  if (size < 1) throw DefectError("permutation: size {}, expected at least 1", size);
}

std::uint64_t Permutation::encrypt(std::uint64_t value) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = value >> half_bits_;
  std::uint64_t right = value & mask;
  for (std::uint64_t round = 0; round < feistel_rounds; ++round) {
    const std::uint64_t mixed = left ^ (mix64(right ^ mix64(key_ + round)) & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

std::int64_t Permutation::operator()(std::int64_t index) const {
  std::uint64_t value = static_cast<std::uint64_t>(index);
  do {
    value = encrypt(value);
  } while (value >= size_);
  return static_cast<std::int64_t>(value);
}

Sampler::Sampler(std::string_view source, std::int64_t tokens, const RowShape& row, std::uint64_t seed)
    : row_(row),
      samples_(count_samples(source, tokens, row)),
      seed_(mix64(seed ^ hash_name("order of the data"))) {}

std::int64_t Sampler::shuffled_begin(std::int64_t global_sample) const {
  const std::uint64_t key = mix64(seed_ + static_cast<std::uint64_t>(epoch_of(global_sample)));
  return Permutation(samples_, key)(global_sample % samples_) * row_.positions;
}

}  // namespace foretoken

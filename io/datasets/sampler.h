#pragma once
// Maps a sample's number to its tokens, as a pure function without state or index lists.
//
// A row has T + 1 + D tokens: T positions, the target of the last one, and D tokens of look-ahead, so that
// no MTP depth loses its tail targets. Rows start at multiples of T. Their look-aheads overlap the next row,
// and every token is a position of at most one row:
//
//   samples = floor((tokens - 1 - D) / T)
//
// Global sample g belongs to epoch g / samples. In the epoch it is entry g mod samples of a permutation of
// all rows that is keyed by (seed, epoch): a balanced Feistel network over the next power of four, repeated
// until the result is in range (cycle walking; Black & Rogaway, "Ciphers with arbitrary finite domains",
// CT-RSA 2002). A run continues, on any layout, from the number of samples that it has consumed.
//
//   key = mix64(mix64(seed ^ hash_name("order of the data")) + epoch)            runtime/random.h
//   8 rounds over two halves of h = ceil(bit_width(samples - 1) / 2) bits, round r = 0 ... 7:
//     left, right = right, left ^ (mix64(right ^ mix64(key + r)) mod 2^h)

#include <cstdint>
#include <string_view>

namespace foretoken {

/// A keyed pseudo-random permutation of [0, size) with O(1) memory.
class Permutation {
 public:
  /// size >= 1.
  Permutation(std::int64_t size, std::uint64_t key);
  std::int64_t operator()(std::int64_t index) const;

 private:
  std::uint64_t encrypt(std::uint64_t value) const;

  std::uint64_t size_;
  std::uint64_t key_;
  int half_bits_;
};

struct RowShape {
  std::int64_t positions = 0;   // T
  std::int64_t look_ahead = 0;  // D
  std::int64_t tokens() const { return positions + 1 + look_ahead; }
};

class Sampler {
 public:
  /// `source` names the text in messages. Throws a UsageError unless T >= 1 and D >= 0, a DataError if the
  /// text is shorter than a row.
  Sampler(std::string_view source, std::int64_t tokens, const RowShape& row, std::uint64_t seed);

  /// Rows per epoch.
  std::int64_t samples() const { return samples_; }
  const RowShape& row() const { return row_; }
  std::int64_t epoch_of(std::int64_t global_sample) const { return global_sample / samples_; }
  /// The position of the first token of a global sample's row, in the shuffled order.
  std::int64_t shuffled_begin(std::int64_t global_sample) const;
  /// The same without shuffling, within one epoch: sample < samples().
  std::int64_t sequential_begin(std::int64_t sample) const { return sample * row_.positions; }

 private:
  RowShape row_;
  std::int64_t samples_;
  std::uint64_t seed_;
};

}  // namespace foretoken

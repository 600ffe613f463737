#pragma once
// Ranges that describe how state is sharded: plain structs shared by optimizer, gradient reducer and
// checkpoints.

#include <cstdint>

namespace foretoken {

/// A range of a flat buffer.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t size() const { return end - begin; }
  bool empty() const { return end <= begin; }
  friend bool operator==(const Range&, const Range&) = default;
};

inline Range intersection(const Range& a, const Range& b) {
  const std::int64_t begin = a.begin > b.begin ? a.begin : b.begin;
  const std::int64_t end = a.end < b.end ? a.end : b.end;
  return {begin, end > begin ? end : begin};
}

/// Part `index` of `parts` equal parts; the range's size must be a multiple of `parts`.
inline Range part_of(const Range& range, int parts, int index) {
  const std::int64_t size = range.size() / parts;
  return {range.begin + size * index, range.begin + size * (index + 1)};
}

}  // namespace foretoken

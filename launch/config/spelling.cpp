#include "launch/config/spelling.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace foretoken {

namespace {

/// Number of insertions, deletions, substitutions and swaps of neighbouring letters that turn one word into
/// the other (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1), previous(row), before(row);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::swap(before, previous);
    std::swap(previous, row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

bool is_closer_spelling(std::string_view typed, std::string_view meant, std::size_t& best) {
  const std::size_t slips = meant.size() < 4 ? 1 : std::max<std::size_t>(2, meant.size() / 3);
  if (typed.size() > meant.size() + slips) return false;
  const std::size_t distance = edit_distance(typed, meant);
  if (distance >= best || distance > slips) return false;
  best = distance;
  return true;
}

std::string closest_spelling(std::string_view typed, std::span<const std::string> words) {
  std::string closest;
  std::size_t best = std::string_view::npos;
  for (const std::string& word : words)
    if (is_closer_spelling(typed, word, best)) closest = word;
  return closest;
}

}  // namespace foretoken

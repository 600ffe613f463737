#include "io/datasets/token_store.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "runtime/error.h"

namespace foretoken {

namespace {

/// Returns the first index whose value is not in the vocabulary, or out.size(). Runs in ascending order: if
/// `stored` is the end of `out`, writing out[i] never overwrites value i + 1.
template <class T>
std::size_t widen(const std::byte* stored, std::span<std::int32_t> out, std::int64_t vocab_size) {
  std::size_t bad = out.size();
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, stored + i * sizeof(T), sizeof(T));
    if (value >= vocab_size) bad = std::min(bad, i);
    out[i] = static_cast<std::int32_t>(value);
  }
  return bad;
}

}  // namespace

void check_header(const std::filesystem::path& path, const TokenDatasetHeader& header) {
  const TokenizerIdentity& tokenizer = header.tokenizer;
  if (tokenizer.vocab_size < 1 || tokenizer.vocab_size > std::numeric_limits<std::int32_t>::max())
    throw DataError("{}: vocab_size is {}, expected 1 to 2^31 - 1", path.string(), tokenizer.vocab_size);
  if (tokenizer.end_of_document < 0 || tokenizer.end_of_document >= tokenizer.vocab_size)
    throw DataError("{}: end_of_document is {}, outside the vocabulary of {}", path.string(),
                    tokenizer.end_of_document, tokenizer.vocab_size);
  const std::vector<std::int64_t>& offsets = header.offsets;
  if (offsets.size() < 2 || offsets.front() != 0 || offsets.back() != header.tokens)
    throw DataError("{}: /document_offsets: goes from {} to {}, expected 0 to {} (the number of tokens)",
                    path.string(), offsets.empty() ? 0 : offsets.front(),
                    offsets.empty() ? 0 : offsets.back(), header.tokens);
  const auto fall = std::adjacent_find(offsets.begin(), offsets.end(), std::greater_equal<>());
  if (fall != offsets.end())
    throw DataError("{}: /document_offsets: entry {} is {}, expected more than {} before it", path.string(),
                    fall - offsets.begin() + 1, fall[1], fall[0]);
}

void widen_tokens(const std::byte* stored, std::span<std::int32_t> out, std::int64_t begin,
                  const TokenDatasetHeader& header, const std::filesystem::path& path) {
  const std::int64_t vocab_size = header.tokenizer.vocab_size;
  const std::size_t bad = header.dtype == DType::u16 ? widen<std::uint16_t>(stored, out, vocab_size)
                                                     : widen<std::uint32_t>(stored, out, vocab_size);
  if (bad < out.size())
    throw DataError("{}: /tokens: token {} is {}, outside the vocabulary of {}", path.string(),
                    begin + static_cast<std::int64_t>(bad), static_cast<std::uint32_t>(out[bad]), vocab_size);
}

}  // namespace foretoken

#include "io/token_dataset.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "runtime/error.h"

namespace foretoken {

namespace {

TokenizerIdentity read_header(const Hdf5File& file) {
  const std::string path = file.file_path().string();
  if (!file.has_attribute("format") || file.string_attribute("format") != token_dataset_format)
    throw DataError("{}: is not a token dataset (attribute format is not \"{}\")", path,
                    token_dataset_format);
  const std::int64_t version = file.i64_attribute("format_version");
  if (version != token_dataset_version)
    throw DataError("{}: format_version is {}, this program reads {}", path, version, token_dataset_version);

  TokenizerIdentity tokenizer;
  tokenizer.name = file.string_attribute("tokenizer_name");
  tokenizer.digest = file.string_attribute("tokenizer_digest");
  tokenizer.vocab_size = file.i64_attribute("vocab_size");
  const std::int64_t end = file.i64_attribute("end_of_document");
  if (tokenizer.vocab_size < 1 || tokenizer.vocab_size > std::numeric_limits<std::int32_t>::max())
    throw DataError("{}: vocab_size is {}, expected 1 to 2^31 - 1", path, tokenizer.vocab_size);
  if (end < 0 || end >= tokenizer.vocab_size)
    throw DataError("{}: end_of_document is {}, outside of the vocabulary of {}", path, end,
                    tokenizer.vocab_size);
  tokenizer.end_of_document = static_cast<std::int32_t>(end);
  return tokenizer;
}

Hdf5Dataset open_tokens(const Hdf5File& file) {
  Hdf5Dataset tokens = file.dataset("/tokens");
  if (tokens.shape().rank() != 1 || (tokens.dtype() != DType::u16 && tokens.dtype() != DType::u32))
    throw DataError("{}: /tokens: is {} of {}, expected one dim of u16 or u32", file.file_path().string(),
                    to_string(tokens.shape()), name_of(tokens.dtype()));
  return tokens;
}

std::vector<std::int64_t> read_offsets(const Hdf5File& file, std::int64_t tokens) {
  const std::string path = file.file_path().string();
  const Hdf5Dataset dataset = file.dataset("/document_offsets");
  if (dataset.shape().rank() != 1 || dataset.dtype() != DType::i64 || dataset.shape()[0] < 2)
    throw DataError("{}: /document_offsets: is {} of {}, expected at least two of i64", path,
                    to_string(dataset.shape()), name_of(dataset.dtype()));
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(dataset.shape()[0]));
  dataset.read(tensor_over(std::span(offsets), dataset.shape()));
  if (offsets.front() != 0 || offsets.back() != tokens)
    throw DataError("{}: /document_offsets: goes from {} to {}, expected 0 to {} (the number of tokens)",
                    path, offsets.front(), offsets.back(), tokens);
  const auto fall = std::adjacent_find(offsets.begin(), offsets.end(), std::greater_equal<>());
  if (fall != offsets.end())
    throw DataError("{}: /document_offsets: entry {} is {}, not above {} before it", path,
                    fall - offsets.begin() + 1, fall[1], fall[0]);
  return offsets;
}

/// Turns n values of T that fill the last n · sizeof(T) bytes of `out` into n int32, front to back: value i +
/// 1 is never inside of what out[i] overwrites. Returns the first index whose value is not in the vocabulary,
/// or n.
template <class T>
std::size_t widen_in_place(std::span<std::int32_t> out, std::int64_t vocab_size) {
  const std::byte* stored = std::as_bytes(out).data() + out.size() * (sizeof(std::int32_t) - sizeof(T));
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

TokenDataset::TokenDataset(const std::filesystem::path& path)
    : file_(Hdf5File::open(path)),
      tokenizer_(read_header(file_)),
      tokens_(open_tokens(file_)),
      offsets_(read_offsets(file_, tokens_.shape()[0])) {}

void TokenDataset::require_tokenizer(const TokenizerIdentity& expected) const {
  if (tokenizer_ != expected)
    throw DataError("{}: was made with tokenizer {}, expected {}", path().string(), to_string(tokenizer_),
                    to_string(expected));
}

std::int64_t TokenDataset::document_of(std::int64_t position) const {
  if (position < 0 || position >= tokens())
    throw DefectError("{}: position {} is outside of {} tokens", path().string(), position, tokens());
  return std::upper_bound(offsets_.begin(), offsets_.end(), position) - offsets_.begin() - 1;
}

std::int64_t TokenDataset::document_start(std::int64_t position) const {
  return offsets_[static_cast<std::size_t>(document_of(position))];
}

void TokenDataset::read(std::int64_t begin, std::span<std::int32_t> out) const {
  std::byte* stored =
      std::as_writable_bytes(out).data() + out.size_bytes() - out.size() * size_of(tokens_.dtype());
  tokens_.read(begin,
               Tensor{stored, tokens_.dtype(), DeviceKind::cpu, {static_cast<std::int64_t>(out.size())}});
  const std::size_t bad = tokens_.dtype() == DType::u16
                              ? widen_in_place<std::uint16_t>(out, tokenizer_.vocab_size)
                              : widen_in_place<std::uint32_t>(out, tokenizer_.vocab_size);
  if (bad < out.size())
    throw DataError("{}: /tokens: token {} is {}, outside of the vocabulary of {}", path().string(),
                    begin + static_cast<std::int64_t>(bad), static_cast<std::uint32_t>(out[bad]),
                    tokenizer_.vocab_size);
}

}  // namespace foretoken

#include "io/datasets/token_dataset_index.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "io/files/bounded_json.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view magic = "FTKINDEX";
constexpr std::int64_t length_bytes = 8;
constexpr std::int64_t footer_bytes = length_bytes + sizeof(BinaryDigest) + 8;
constexpr std::int64_t longest_text = 1 << 20;  // texts that Foretoken writes have less than 1 KiB

std::int64_t natural(const Json& json, const char* name) {
  const Json& value = json.at(name);
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
    throw DataError("{} is not a whole number", name);
  return value.get<std::int64_t>();
}

Json to_json(const StoredArray& array) {
  return {{"dtype", name_of(array.dtype)}, {"count", array.count}, {"address", array.address}};
}

/// Reads an array with a dtype of `dtypes` that ends before `end`.
StoredArray array_from(const Json& index, const char* name, std::span<const DType> dtypes, std::int64_t end) {
  const Json& json = index.at(name);
  StoredArray array;
  const std::string dtype = json.at("dtype").get<std::string>();
  const auto found = std::find_if(dtypes.begin(), dtypes.end(), [&](DType d) { return name_of(d) == dtype; });
  if (found == dtypes.end()) throw DataError("{} have the unexpected dtype {}", name, dtype);
  array.dtype = *found;
  array.count = natural(json, "count");
  array.address = natural(json, "address");
  if (array.address > end ||
      array.count > (end - array.address) / static_cast<std::int64_t>(size_of(array.dtype)))
    throw DataError("{}: {} elements of {} at byte {} are out of range for the {} bytes before the index",
                    name, array.count, dtype, array.address, end);
  return array;
}

TokenDatasetIndex index_from(const Json& json, std::int64_t end) {
  if (const std::int64_t version = natural(json, "format_version"); version != token_dataset_version)
    throw DataError("format_version is {}, this program reads 1 and {}", version, token_dataset_version);
  if (const std::int64_t chunk = natural(json, "chunk_bytes"); chunk != digest_chunk_bytes)
    throw DataError("chunk_bytes is {}, expected {}", chunk, digest_chunk_bytes);
  TokenDatasetIndex index;
  index.tokenizer.name = json.at("tokenizer_name").get<std::string>();
  index.tokenizer.digest = json.at("tokenizer_digest").get<std::string>();
  index.tokenizer.vocab_size = natural(json, "vocab_size");
  const std::int64_t end_of_document = natural(json, "end_of_document");
  if (end_of_document > std::numeric_limits<std::int32_t>::max())
    throw DataError("end_of_document is {}, out of range for any vocabulary", end_of_document);
  index.tokenizer.end_of_document = static_cast<std::int32_t>(end_of_document);
  constexpr DType token_dtypes[] = {DType::u16, DType::u32}, offset_dtypes[] = {DType::i64},
                  table_dtypes[] = {DType::u8};
  index.tokens = array_from(json, "tokens", token_dtypes, end);
  index.document_offsets = array_from(json, "document_offsets", offset_dtypes, end);
  index.token_digests = array_from(json, "token_digests", table_dtypes, end);
  index.offset_digests = array_from(json, "offset_digests", table_dtypes, end);
  const auto require_table = [](const char* name, const StoredArray& table, const StoredArray& array) {
    const std::int64_t expected = array.chunks() * static_cast<std::int64_t>(sizeof(BinaryDigest));
    if (table.bytes() != expected)
      throw DataError("{} have {} bytes, expected {} for {} chunks", name, table.bytes(), expected,
                      array.chunks());
  };
  require_table("token_digests", index.token_digests, index.tokens);
  require_table("offset_digests", index.offset_digests, index.document_offsets);
  index.structures = json.at("structures").get<std::string>();
  index.identity = json.at("identity").get<std::string>();
  return index;
}

}  // namespace

Range StoredArray::chunk(std::int64_t chunk) const {
  const std::int64_t begin = chunk * digest_chunk_bytes;
  return {address + begin, address + std::min(bytes(), begin + digest_chunk_bytes)};
}

std::vector<Range> TokenDatasetIndex::arrays() const {
  return {tokens.range(), document_offsets.range(), token_digests.range(), offset_digests.range()};
}

std::string identity_of(const TokenDatasetIndex& index, std::span<const BinaryDigest> token_digests,
                        std::span<const BinaryDigest> offset_digests) {
  const std::string head =
      fmt::format("{} {}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n", token_dataset_format, token_dataset_version,
                  index.tokenizer.name, index.tokenizer.digest, index.tokenizer.vocab_size,
                  index.tokenizer.end_of_document, name_of(index.tokens.dtype), index.tokens.count,
                  index.document_offsets.count, digest_chunk_bytes);
  DigestStream stream;
  stream.add(std::as_bytes(std::span(head)));
  stream.add(std::as_bytes(token_digests));
  stream.add(std::as_bytes(offset_digests));
  return stream.digest();
}

std::string index_bytes(const TokenDatasetIndex& index) {
  const Json json = {{"format_version", token_dataset_version},
                     {"tokenizer_name", index.tokenizer.name},
                     {"tokenizer_digest", index.tokenizer.digest},
                     {"vocab_size", index.tokenizer.vocab_size},
                     {"end_of_document", index.tokenizer.end_of_document},
                     {"chunk_bytes", digest_chunk_bytes},
                     {"tokens", to_json(index.tokens)},
                     {"document_offsets", to_json(index.document_offsets)},
                     {"token_digests", to_json(index.token_digests)},
                     {"offset_digests", to_json(index.offset_digests)},
                     {"structures", index.structures},
                     {"identity", index.identity}};
  std::string bytes = json.dump();
  const BinaryDigest digest = binary_digest_of(std::as_bytes(std::span(bytes)));
  const std::uint64_t length = bytes.size();
  for (std::int64_t i = 0; i < length_bytes; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xff);
  bytes.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  return bytes.append(magic);
}

std::optional<LocatedIndex> read_index(const FileReader& file) {
  const std::int64_t size = file.size();
  if (size < footer_bytes) return std::nullopt;
  std::string footer(footer_bytes, '\0');
  file.read(size - footer_bytes, std::as_writable_bytes(std::span(footer)));
  if (!footer.ends_with(magic)) return std::nullopt;
  std::uint64_t length = 0;
  for (std::size_t i = length_bytes; i-- > 0;) length = length << 8 | static_cast<unsigned char>(footer[i]);
  if (length > static_cast<std::uint64_t>(std::min(longest_text, size - footer_bytes)))
    throw DataError("{}: index: damaged: its length is {} bytes in a file of {}", file.path().string(),
                    length, size);
  const std::int64_t begin = size - footer_bytes - static_cast<std::int64_t>(length);
  std::string text(static_cast<std::size_t>(length), '\0');
  file.read(begin, std::as_writable_bytes(std::span(text)));
  BinaryDigest stored;
  std::memcpy(stored.data(), footer.data() + length_bytes, stored.size());
  if (const BinaryDigest actual = binary_digest_of(std::as_bytes(std::span(text))); actual != stored)
    throw DataError("{}: index: digest differs (stored {}, content {})", file.path().string(),
                    abbreviated(to_string(stored)), abbreviated(to_string(actual)));
  try {
    return LocatedIndex{index_from(parse_json_bounded<Json>(text), begin), begin};
  } catch (const Json::exception& error) {
    throw DataError("{}: index: {}", file.path().string(), error.what());
  } catch (const Error& error) {
    throw DataError("{}: index: {}", file.path().string(), error.what());
  }
}

}  // namespace foretoken

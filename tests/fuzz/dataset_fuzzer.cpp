// Fuzzes token datasets of version 2: the input as the file; the input as arrays with an index whose digests
// match; the input as the JSON of an index whose digest matches.
#include <cstring>
#include <vector>

#include "io/datasets/token_store.h"
#include "tests/fuzz/scratch_file.h"

using namespace foretoken;

namespace {

void use(const std::string& bytes) {
  fuzz::expect_an_answer([&] {
    FileReader file(fuzz::scratch_file(bytes));
    const std::optional<LocatedIndex> located = read_index(file);
    if (!located) return;
    const std::unique_ptr<TokenStore> store = open_indexed_tokens(std::move(file), *located);
    store->verify();
    std::vector<std::int32_t> row(
        static_cast<std::size_t>(std::min<std::int64_t>(store->header().tokens, 100)));
    store->read(store->header().tokens - static_cast<std::int64_t>(row.size()), row);
  });
}

std::vector<BinaryDigest> digests_of(std::string_view bytes) {
  std::vector<BinaryDigest> digests;
  for (std::size_t at = 0; at < bytes.size(); at += digest_chunk_bytes)
    digests.push_back(binary_digest_of(std::as_bytes(std::span(bytes.substr(at, digest_chunk_bytes)))));
  return digests;
}

/// A dataset whose digests match. The input's first 16 bytes set counts and the tokenizer, the other bytes
/// are the arrays.
std::string with_right_digests(std::string_view input) {
  if (input.size() < 16) return {};
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(input[i]); };
  TokenDatasetIndex index;
  index.tokenizer = {"bytes", "0", at(0) | at(1) << 8, static_cast<std::int32_t>(at(2) | at(3) << 8)};
  index.tokens.dtype = at(4) % 2 ? DType::u16 : DType::u32;
  index.document_offsets.dtype = DType::i64;
  std::string bytes(input.substr(16));
  index.document_offsets.count = std::min<std::int64_t>(at(5), static_cast<std::int64_t>(bytes.size()) / 8);
  index.tokens.address = index.document_offsets.bytes();
  index.tokens.count = (static_cast<std::int64_t>(bytes.size()) - index.tokens.address) /
                       static_cast<std::int64_t>(size_of(index.tokens.dtype));
  const auto table = [&](StoredArray& digests, const StoredArray& array) {
    const auto values = digests_of(std::string_view(bytes).substr(static_cast<std::size_t>(array.address),
                                                                  static_cast<std::size_t>(array.bytes())));
    digests.count = static_cast<std::int64_t>(values.size() * sizeof(BinaryDigest));
    digests.address = static_cast<std::int64_t>(bytes.size());
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(BinaryDigest));
    return values;
  };
  const auto token_digests = table(index.token_digests, index.tokens);
  const auto offset_digests = table(index.offset_digests, index.document_offsets);
  index.identity = identity_of(index, token_digests, offset_digests);
  index.structures = std::string(32, '0');
  return bytes + index_bytes(index);
}

/// A file that ends with the input as the index's JSON, with the length and the digest that read_index()
/// expects.
std::string with_footer(std::string_view text) {
  std::string bytes(text);
  const BinaryDigest digest = binary_digest_of(std::as_bytes(std::span(text)));
  const std::uint64_t length = text.size();
  bytes.append(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  return bytes + "FTKINDEX";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  use(std::string(input));
  use(with_right_digests(input));
  use(with_footer(input));
  return 0;
}

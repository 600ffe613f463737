#pragma once
// The index at the end of a token dataset of version 2 (io/datasets/token_dataset.h has the whole format):
// the addresses of the arrays, and digests that cover every byte of the file. A reader of the index needs no
// HDF5. HDF5 ignores bytes after its own data.
//
// The file ends with
//
//   [J bytes]   JSON, with the keys of the example below
//   [8 bytes]   J, unsigned, little-endian
//   [16 bytes]  XXH3-128 of the JSON text, canonical (big-endian)
//   [8 bytes]   "FTKINDEX"
//
//   { "format_version": 2,
//     "tokenizer_name": "bytes", "tokenizer_digest": "7616…", "vocab_size": 257, "end_of_document": 256,
//     "chunk_bytes": 65536,
//     "tokens":           {"dtype": "u16", "count": 1000000, "address": 1048576},
//     "document_offsets": {"dtype": "i64", "count": 4001,    "address": 3145728},
//     "token_digests":    {"dtype": "u8",  "count": 496,     "address": 3177760},
//     "offset_digests":   {"dtype": "u8",  "count": 16,      "address": 3178256},
//     "structures": digest of the bytes before the JSON that are in none of the four arrays, as hex,
//     "identity":   digest of the content, as hex }
//
// The digest tables have 16 bytes (XXH3-128, canonical) for every chunk of `chunk_bytes` bytes of their
// array; the last chunk may be shorter. The identity is the XXH3-128 of
//
//   "foretoken token dataset 2\n{tokenizer_name}\n{tokenizer_digest}\n{vocab_size}\n{end_of_document}\n
//    {dtype of tokens}\n{count of tokens}\n{count of document_offsets}\n{chunk_bytes}\n"     (no line break)
//
// followed by both tables, tokens first. Two datasets with the same content have the same identity, wherever
// their arrays are stored.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/files/digest.h"
#include "io/files/file_reader.h"
#include "io/tokenizers/tokenizer_identity.h"
#include "runtime/tensor.h"

namespace foretoken {

inline constexpr const char* token_dataset_format = "foretoken token dataset";
inline constexpr std::int64_t token_dataset_version = 2;
/// A training row reads and checks every chunk that it overlaps: chunks are small enough to make that
/// inexpensive, and large enough to keep the table small (2.4e-4 of the tokens).
inline constexpr std::int64_t digest_chunk_bytes = 64 << 10;

struct StoredArray {
  DType dtype = DType::u8;
  std::int64_t count = 0;
  std::int64_t address = 0;  // file offset of the first byte

  std::int64_t bytes() const { return count * static_cast<std::int64_t>(size_of(dtype)); }
  std::int64_t chunks() const { return (bytes() + digest_chunk_bytes - 1) / digest_chunk_bytes; }
  /// The bytes of the file that chunk number `chunk` covers.
  Range chunk(std::int64_t chunk) const;
  Range range() const { return {address, address + bytes()}; }
};

struct TokenDatasetIndex {
  TokenizerIdentity tokenizer;
  StoredArray tokens;
  StoredArray document_offsets;
  StoredArray token_digests;
  StoredArray offset_digests;
  std::string structures;
  std::string identity;

  /// The ranges that `structures` excludes.
  std::vector<Range> arrays() const;
};

/// The identity of a dataset's content.
std::string identity_of(const TokenDatasetIndex& index, std::span<const BinaryDigest> token_digests,
                        std::span<const BinaryDigest> offset_digests);

/// The index as the bytes that end the file.
std::string index_bytes(const TokenDatasetIndex& index);

struct LocatedIndex {
  TokenDatasetIndex index;
  std::int64_t begin = 0;  // file offset of the JSON text
};

/// Reads the index at the end of a file; empty if there is none. Checks its digest, the version, that every
/// array is in the file before the index, and that the tables fit their arrays. Throws a DataError otherwise.
std::optional<LocatedIndex> read_index(const FileReader& file);

}  // namespace foretoken

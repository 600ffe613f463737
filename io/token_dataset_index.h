#pragma once
// The index at the end of a token dataset of version 2 (io/token_dataset.h has the whole format): where the
// arrays lie in the file, and the digests that cover every byte of it. With it the dataset is read without
// HDF5. HDF5 itself ignores bytes after its own.
//
// The file ends with
//
//   [J bytes]   JSON, the keys as in the example below
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
//     "structures": digest of the bytes before the JSON that lie in none of the four arrays, as hex,
//     "identity":   digest of the content, as hex }
//
// The digest tables hold 16 bytes (XXH3-128, canonical) for every chunk of `chunk_bytes` bytes of their
// array; the last chunk is the rest. The identity is the XXH3-128 of
//
//   "foretoken token dataset 2\n{tokenizer_name}\n{tokenizer_digest}\n{vocab_size}\n{end_of_document}\n
//    {dtype of tokens}\n{count of tokens}\n{count of document_offsets}\n{chunk_bytes}\n"     (no line break)
//
// followed by both tables, tokens first. Two datasets of the same content have the same identity wherever the
// arrays lie.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/digest.h"
#include "io/file_reader.h"
#include "io/tokenizer.h"
#include "runtime/tensor.h"

namespace foretoken {

inline constexpr const char* token_dataset_format = "foretoken token dataset";
inline constexpr std::int64_t token_dataset_version = 2;
/// A row of training reads and checks every chunk that it touches: small enough for that to cost little,
/// large enough for the table to be small (2.4e-4 of the tokens).
inline constexpr std::int64_t digest_chunk_bytes = 64 << 10;

struct StoredArray {
  DType dtype = DType::u8;
  std::int64_t count = 0;
  std::int64_t address = 0;  // of the first byte in the file

  std::int64_t bytes() const { return count * static_cast<std::int64_t>(size_of(dtype)); }
  std::int64_t chunks() const { return (bytes() + digest_chunk_bytes - 1) / digest_chunk_bytes; }
  /// Bytes of the file that chunk `chunk` is.
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

  /// What `structures` leaves out.
  std::vector<Range> arrays() const;
};

/// The identity of a content.
std::string identity_of(const TokenDatasetIndex& index, std::span<const BinaryDigest> token_digests,
                        std::span<const BinaryDigest> offset_digests);

/// The bytes that end the file.
std::string index_bytes(const TokenDatasetIndex& index);

struct LocatedIndex {
  TokenDatasetIndex index;
  std::int64_t begin = 0;  // of the JSON text in the file
};

/// The index that a file ends with; nothing where it ends with none. Checked: its digest, the version, that
/// every array lies in the file before it, and that the tables fit their arrays. DataError.
std::optional<LocatedIndex> read_index(const FileReader& file);

}  // namespace foretoken

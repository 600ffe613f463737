#pragma once
// A token dataset: the tokens of many documents in sequence, in one HDF5 file that h5py and any other reader
// opens. Version 2, which TokenDatasetWriter writes:
//
//   /tokens            [N] uint16 if vocab_size <= 65536, else uint32
//   /document_offsets  [D + 1] int64: document d is tokens [offsets[d], offsets[d + 1]); 0 first, N last
//   /token_digests     [chunks, 16] uint8: XXH3-128 of each 64 KiB chunk of /tokens; the last may be shorter
//   /offset_digests    [chunks, 16] uint8: the same for /document_offsets
//   attributes of /    format "foretoken token dataset", format_version 2, tokenizer_name, tokenizer_digest
//                      (strings of fixed length), vocab_size, end_of_document (integers)
//   after HDF5's end   the index: addresses of the four arrays, their digests and the dataset's identity
//                      (io/datasets/token_dataset_index.h, byte for byte)
//
// All arrays are contiguous. Every document ends with the end-of-document token. Values are little-endian.
//
// Version 1 has no digests and no index; its arrays may be chunked, but not compressed. It can be read, but
// damage to its tokens is detected only if a token leaves the vocabulary or the file changes while it is
// open.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/tokenizers/tokenizer_identity.h"

namespace foretoken {

class TokenStore;

/// Record of a dataset that is stored elsewhere: its path and its identity.
struct DatasetRecord {
  std::string path;
  std::string identity;
  friend bool operator==(const DatasetRecord&, const DatasetRecord&) = default;
};

class TokenDataset {
 public:
  /// Opens the file and checks everything but the tokens, which are checked when they are read. Throws a
  /// DataError.
  explicit TokenDataset(const std::filesystem::path& path);
  ~TokenDataset();

  const std::filesystem::path& path() const { return path_; }
  const TokenizerIdentity& tokenizer() const;
  /// Throws a DataError with both identities unless the dataset was made with this tokenizer.
  void require_tokenizer(const TokenizerIdentity& expected) const;
  std::int64_t version() const;
  bool has_digests() const { return version() >= 2; }
  /// 32 hex digits that are equal only for datasets with the same content. For version 1 they cover the
  /// tokenizer, the counts and the document offsets, but not the tokens.
  const std::string& identity() const;
  DatasetRecord record() const { return {path().string(), identity()}; }

  std::int64_t tokens() const;
  std::int64_t documents() const { return static_cast<std::int64_t>(document_offsets().size()) - 1; }
  /// [D + 1], held in memory.
  std::span<const std::int64_t> document_offsets() const;
  /// The document that contains the token at `position`, and where it starts.
  std::int64_t document_of(std::int64_t position) const;
  std::int64_t document_start(std::int64_t position) const;

  /// Reads tokens [begin, begin + out.size()); the range must be inside (DefectError). Does not allocate.
  /// Callable from any thread. Bytes are compared with their digests before use. Throws a DataError naming
  /// chunk and tokens if the file was truncated or overwritten, even after it was opened, for a token outside
  /// the vocabulary, or if the disk fails.
  void read(std::int64_t begin, std::span<std::int32_t> out) const;

  /// Reads the whole file and returns one line for each damaged part; empty if the file is intact.
  std::vector<std::string> verify() const;

 private:
  std::filesystem::path path_;
  std::unique_ptr<TokenStore> store_;
};

}  // namespace foretoken

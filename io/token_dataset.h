#pragma once
// A token dataset: the tokens of many documents one after another, in one HDF5 file that h5py and every other
// reader opens. Version 2, which TokenDatasetWriter writes:
//
//   /tokens            [N] uint16 where vocab_size <= 65536, else uint32
//   /document_offsets  [D + 1] int64: document d is tokens [offsets[d], offsets[d + 1]); 0 first, N last
//   /token_digests     [chunks, 16] uint8: XXH3-128 of each chunk of 64 KiB of /tokens, the last one shorter
//   /offset_digests    [chunks, 16] uint8: the same of /document_offsets
//   attributes of /    format "foretoken token dataset", format_version 2, tokenizer_name, tokenizer_digest
//                      (strings of fixed length), vocab_size, end_of_document (integers)
//   after HDF5's end   the index: where the four arrays lie, their digests and the dataset's identity
//                      (io/token_dataset_index.h, byte for byte)
//
// All arrays are contiguous. Every document ends with the end-of-document token. Values are little-endian.
//
// Version 1 is the same without digests and index; its arrays may be chunked, but not compressed. It is read,
// but damage to its tokens is found only where a token leaves the vocabulary or the file changes while it is
// open.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/tokenizer.h"

namespace foretoken {

class TokenStore;

/// What others keep of a dataset: where it was, and its identity.
struct DatasetRecord {
  std::string path;
  std::string identity;
  friend bool operator==(const DatasetRecord&, const DatasetRecord&) = default;
};

class TokenDataset {
 public:
  /// Opens and checks the whole format but the tokens, which are checked as they are read. DataError.
  explicit TokenDataset(const std::filesystem::path& path);
  ~TokenDataset();

  const std::filesystem::path& path() const { return path_; }
  const TokenizerIdentity& tokenizer() const;
  /// A DataError that shows both unless the dataset was made with this tokenizer.
  void require_tokenizer(const TokenizerIdentity& expected) const;
  std::int64_t version() const;
  bool has_digests() const { return version() >= 2; }
  /// 32 hex digits that two datasets share only where their content is the same. Of version 1 they cover the
  /// tokenizer, the counts and the document offsets, but not the tokens.
  const std::string& identity() const;
  DatasetRecord record() const { return {path().string(), identity()}; }

  std::int64_t tokens() const;
  std::int64_t documents() const { return static_cast<std::int64_t>(document_offsets().size()) - 1; }
  /// [D + 1], held in memory.
  std::span<const std::int64_t> document_offsets() const;
  /// Which document holds the token at `position`, and where it begins.
  std::int64_t document_of(std::int64_t position) const;
  std::int64_t document_start(std::int64_t position) const;

  /// Tokens [begin, begin + out.size()); the range must lie inside (DefectError). Allocates nothing. From any
  /// thread. The bytes are read from the file and compared with their digests before they are used: DataError
  /// naming chunk and tokens where the file was cut or overwritten, also after it was opened, for a token
  /// outside of the vocabulary, or where the disk fails.
  void read(std::int64_t begin, std::span<std::int32_t> out) const;

  /// Reads the whole file and returns what is damaged, one line each; empty where all holds.
  std::vector<std::string> verify() const;

 private:
  std::filesystem::path path_;
  std::unique_ptr<TokenStore> store_;
};

}  // namespace foretoken

#pragma once
// A token dataset: the tokens of many documents one after another, in one HDF5 file that h5py and every other
// reader opens.
//
//   /tokens            [N] uint16 where vocab_size <= 65536, else uint32
//   /document_offsets  [D + 1] int64: document d is tokens [offsets[d], offsets[d + 1]); 0 first, N last
//   attributes of /    format "foretoken token dataset", format_version 1, tokenizer_name, tokenizer_digest
//                      (strings of fixed length), vocab_size, end_of_document (integers)
//
// Every document ends with the end-of-document token. The writer stores in uncompressed chunks of 1 MiB,
// which lets it write once and in bounded memory without knowing N; the reader takes contiguous data as well.

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "io/durable_file.h"
#include "io/hdf5.h"
#include "io/tokenizer.h"

namespace foretoken {

inline constexpr const char* token_dataset_format = "foretoken token dataset";
inline constexpr std::int64_t token_dataset_version = 1;

/// Writes a temporary file beside the dataset (io/durable_file.h); publish() renames it. Two writers of one
/// dataset do not meet: the one that publishes last replaces the other's.
class TokenDatasetWriter {
 public:
  /// Makes the folder where it is missing. DataError where the file cannot be made.
  TokenDatasetWriter(const std::filesystem::path& path, const TokenizerIdentity& tokenizer);
  TokenDatasetWriter(const TokenDatasetWriter&) = delete;
  TokenDatasetWriter& operator=(const TokenDatasetWriter&) = delete;

  /// More tokens of the current document. DefectError for an id outside of the vocabulary, DataError for a
  /// full disk.
  void append(std::span<const std::int32_t> ids);
  /// Appends the end-of-document token and ends the document.
  void end_document();
  /// Completes the temporary file and syncs it to disk. DataError where there is no document, DefectError
  /// where one has not ended.
  void finish();
  /// Renames the finished file to its name and syncs the folder.
  void publish();

  std::int64_t tokens() const { return tokens_; }
  std::int64_t documents() const { return documents_; }

 private:
  void flush_tokens();
  void flush_offsets();

  std::filesystem::path path_;
  PendingFile pending_;
  TokenizerIdentity tokenizer_;
  Hdf5File file_;
  Hdf5Dataset token_dataset_;
  Hdf5Dataset offset_dataset_;
  std::vector<std::int32_t> pending_tokens_;
  std::vector<std::int64_t> pending_offsets_;
  std::int64_t tokens_ = 0;
  std::int64_t documents_ = 0;
  std::int64_t document_begin_ = 0;
};

class TokenDataset {
 public:
  /// Opens and checks the whole format but the tokens, which are checked as they are read. DataError.
  explicit TokenDataset(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.file_path(); }
  const TokenizerIdentity& tokenizer() const { return tokenizer_; }
  /// A DataError that shows both unless the dataset was made with this tokenizer.
  void require_tokenizer(const TokenizerIdentity& expected) const;

  std::int64_t tokens() const { return tokens_.shape()[0]; }
  std::int64_t documents() const { return static_cast<std::int64_t>(offsets_.size()) - 1; }
  /// [D + 1], held in memory.
  std::span<const std::int64_t> document_offsets() const { return offsets_; }
  /// Which document holds the token at `position`, and where it begins.
  std::int64_t document_of(std::int64_t position) const;
  std::int64_t document_start(std::int64_t position) const;

  /// Tokens [begin, begin + out.size()); the range must lie inside (DefectError). Allocates nothing.
  /// DataError for a token outside of the vocabulary, or where the disk fails.
  void read(std::int64_t begin, std::span<std::int32_t> out) const;

 private:
  Hdf5File file_;
  TokenizerIdentity tokenizer_;
  Hdf5Dataset tokens_;
  std::vector<std::int64_t> offsets_;
};

}  // namespace foretoken

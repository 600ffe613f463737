#pragma once
// Writes a token dataset (io/datasets/token_dataset.h) in one pass. Memory: 16 bytes per 64 KiB of tokens, 8
// bytes per document and a buffer of 2 MiB.

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "io/datasets/token_dataset_index.h"
#include "io/files/durable_file.h"
#include "io/hdf5/hdf5.h"
#include "io/tokenizers/tokenizer_identity.h"

namespace foretoken {

/// Writes a temporary file beside the dataset (io/files/durable_file.h); publish() renames it. Two writers of
/// one dataset do not disturb each other: the one that publishes last replaces the other's file.
class TokenDatasetWriter {
 public:
  /// Creates the folder if it is missing. Throws a DataError if the file cannot be created.
  TokenDatasetWriter(const std::filesystem::path& path, const TokenizerIdentity& tokenizer);
  ~TokenDatasetWriter();
  TokenDatasetWriter(const TokenDatasetWriter&) = delete;
  TokenDatasetWriter& operator=(const TokenDatasetWriter&) = delete;

  /// Appends tokens to the current document. Throws a DefectError for an id outside the vocabulary, a
  /// DataError for a full disk.
  void append(std::span<const std::int32_t> ids);
  /// Appends the end-of-document token and ends the document.
  void end_document();
  /// Completes the temporary file and syncs it to disk. Throws a DataError if there is no document, a
  /// DefectError if the current document has not ended.
  void finish();
  /// Renames the finished file to its name and syncs the folder.
  void publish();

  std::int64_t tokens() const { return tokens_; }
  std::int64_t documents() const { return static_cast<std::int64_t>(offsets_.size()) - 1; }
  /// The dataset's identity, after finish().
  const std::string& identity() const { return identity_; }

 private:
  std::span<const std::byte> narrow_pending();
  /// Writes the pending tokens after those in the file, which start at `address`.
  void flush_tokens(std::int64_t address);
  void write_bytes(std::int64_t begin, std::span<const std::byte> bytes) const;
  StoredArray write_table(const char* name, std::span<const BinaryDigest> digests);

  std::filesystem::path path_;
  PendingFile file_on_disk_;
  TokenizerIdentity tokenizer_;
  DType dtype_;
  Hdf5File file_;
  int descriptor_ = -1;  // the same file, opened to write tokens before HDF5 creates their dataset
  std::vector<std::int32_t> pending_;  // tokens that are not in the file yet
  std::int64_t written_bytes_ = 0;     // bytes of tokens in the file
  std::vector<BinaryDigest> token_digests_;
  std::vector<std::int64_t> offsets_{0};
  std::int64_t tokens_ = 0;
  std::string identity_;
};

}  // namespace foretoken

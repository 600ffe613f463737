#pragma once
// Chooses the documents that tokenize holds out for validation.

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "io/files/digest.h"

namespace foretoken {

/// Chooses whole documents with about `fraction` of all tokens. In an order that depends on a document's
/// number alone, each document that still fits is taken; then the shortest of the others, if the sum is then
/// closer to the target. The same counts give the same choice on every machine, and most of the choice stays
/// the same if documents are appended to the text. Returns one entry per document.
std::vector<bool> held_out_documents(std::span<const std::int64_t> tokens_of_document, double fraction);

/// A document as it was read once.
struct DocumentRecord {
  std::int64_t tokens = 0;
  BinaryDigest text{};

  bool operator==(const DocumentRecord&) const = default;
};

/// The number of tokens of every document must be known before the first one is written, so the text is read
/// twice. The split is of the first time; the second time must read the same text.
class DocumentSplit {
 public:
  DocumentSplit(std::vector<DocumentRecord> documents, double fraction);

  /// False for documents that did not exist the first time.
  bool holds_out(std::size_t document) const { return document < held_out_.size() && held_out_[document]; }
  /// Throws a DataError that names the path if the document's text is another one the second time.
  void require_same(std::size_t document, const DocumentRecord& read,
                    const std::filesystem::path& path) const;
  /// Throws a DataError unless the text has this number of documents the first time, too.
  void require_count(std::size_t documents) const;

 private:
  std::vector<DocumentRecord> documents_;
  std::vector<bool> held_out_;
};

}  // namespace foretoken

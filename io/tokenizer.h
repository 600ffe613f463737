#pragma once
// Tokenizers: text to token ids and back. A dataset and a checkpoint carry the identity of the tokenizer that
// made their tokens, and whoever reads them compares it.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace foretoken {

struct TokenizerIdentity {
  std::string name;    // "bytes"
  std::string digest;  // 32 hex digits: XXH3-128 of all that defines text -> ids
  std::int64_t vocab_size = 0;
  std::int32_t end_of_document = 0;  // the id that ends every document

  friend bool operator==(const TokenizerIdentity&, const TokenizerIdentity&) = default;
};

/// "bytes (digest 0123…, vocabulary 257, end of document 256)"
std::string to_string(const TokenizerIdentity& identity);

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual const TokenizerIdentity& identity() const = 0;
  /// Appends the ids of `text` to `ids`. Never the end-of-document id: text that spells it is text.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) const = 0;
  /// The bytes that `ids` stand for, "<|endofdocument|>" for the end of a document. DataError for an id
  /// outside of the vocabulary.
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
};

/// "bytes": ids 0 to 255 are the bytes of the text, whatever its encoding, and 256 ends a document. A
/// UsageError for a name that does not exist, saying which do.
std::unique_ptr<Tokenizer> make_tokenizer(std::string_view name);

/// [V] bytes of the text that each token stands for, 0 for the end of a document. Empty where `identity` is
/// of no tokenizer that exists here: datasets of foreign tokens can be trained on too.
std::vector<std::int32_t> bytes_of_tokens(const TokenizerIdentity& identity);

}  // namespace foretoken

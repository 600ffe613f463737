#pragma once
// Tokenizers: text to token ids and back. Datasets and checkpoints store the identity of the tokenizer that
// made their tokens, and readers compare it.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace foretoken {

struct TokenizerIdentity {
  std::string name;    // "bytes"
  std::string digest;  // 32 hex digits: XXH3-128 of everything that defines text -> ids
  std::int64_t vocab_size = 0;
  std::int32_t end_of_document = 0;  // the last id of every document

  friend bool operator==(const TokenizerIdentity&, const TokenizerIdentity&) = default;
};

/// Example: "bytes (digest 0123…, vocabulary 257, end of document 256)".
std::string to_string(const TokenizerIdentity& identity);
/// The identity whose to_string() is `text`; empty for other text. Manifests of format 1 store this text.
std::optional<TokenizerIdentity> parse_tokenizer_identity(const std::string& text);

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual const TokenizerIdentity& identity() const = 0;
  /// Appends the ids of `text` to `ids`. Never the end-of-document id: text that spells it stays text.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) const = 0;
  /// The bytes that `ids` stand for, "<|endofdocument|>" for the end of a document. Throws a DataError for an
  /// id outside the vocabulary.
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
};

/// "bytes": ids 0 to 255 are the bytes of the text in any encoding, and 256 ends a document. Throws a
/// UsageError for an unknown name that lists the known ones.
std::unique_ptr<Tokenizer> make_tokenizer(std::string_view name);

/// [V] bytes of text that each token stands for, 0 for the end of a document. Empty if `identity` is of an
/// unknown tokenizer, whose datasets can also be trained on.
std::vector<std::int32_t> bytes_of_tokens(const TokenizerIdentity& identity);

}  // namespace foretoken

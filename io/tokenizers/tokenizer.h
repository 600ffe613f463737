#pragma once
// Tokenizers: text to token ids and back.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizers/tokenizer_identity.h"

namespace foretoken {

/// Encodes text. It has scratch memory and a cache, so a thread needs one of its own.
class TokenEncoder {
 public:
  virtual ~TokenEncoder() = default;

  /// Appends the ids of `text` to `ids`. Never the end-of-document id: text that spells it stays text.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) = 0;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual const TokenizerIdentity& identity() const = 0;
  /// The tokenizer must outlive its encoders. Threads may call this at the same time.
  virtual std::unique_ptr<TokenEncoder> make_encoder() const = 0;
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

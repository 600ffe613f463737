#pragma once
// What tells tokenizers apart. Datasets and checkpoints store the identity of the tokenizer that made their
// tokens, and readers compare it.

#include <cstdint>
#include <optional>
#include <string>

namespace foretoken {

struct TokenizerIdentity {
  std::string name;    // the kind: "bytes"
  std::string digest;  // 32 hex digits: XXH3-128 of everything that defines text -> ids
  std::int64_t vocab_size = 0;
  std::int32_t end_of_document = 0;  // the last id of every document

  friend bool operator==(const TokenizerIdentity&, const TokenizerIdentity&) = default;
};

/// Example: "bytes (digest 0123…, vocabulary 257, end of document 256)".
std::string to_string(const TokenizerIdentity& identity);
/// The identity whose to_string() is `text`; empty for other text. Manifests of format 1 store this text.
std::optional<TokenizerIdentity> parse_tokenizer_identity(const std::string& text);

}  // namespace foretoken

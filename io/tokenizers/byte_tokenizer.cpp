#include "io/tokenizers/tokenizer.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr std::string_view end_of_document_text = "<|endofdocument|>";

class ByteEncoder final : public TokenEncoder {
 public:
  void encode(std::string_view text, std::vector<std::int32_t>& ids) override {
    const std::size_t size = ids.size();
    ids.resize(size + text.size());
    for (std::size_t i = 0; i < text.size(); ++i) ids[size + i] = static_cast<unsigned char>(text[i]);
  }
};

class ByteTokenizer final : public Tokenizer {
 public:
  const TokenizerIdentity& identity() const override { return identity_; }
  std::unique_ptr<TokenEncoder> make_encoder() const override { return std::make_unique<ByteEncoder>(); }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    text.reserve(ids.size());
    for (const std::int32_t id : ids) {
      if (id < 0 || id >= identity_.vocab_size)
        throw DataError("tokenizer {}: id {} is outside the vocabulary of {}", identity_.name, id,
                        identity_.vocab_size);
      if (id == identity_.end_of_document)
        text += end_of_document_text;
      else
        text += static_cast<char>(id);
    }
    return text;
  }

 private:
  // The digest of "ids 0-255: the bytes; id 256: <|endofdocument|>".
  TokenizerIdentity identity_{"bytes", "7616142adcc6254c5795ed877f813edd", 257, 256};
};

}  // namespace

namespace {

std::unique_ptr<Tokenizer> find_tokenizer(std::string_view name) {
  if (name == "bytes") return std::make_unique<ByteTokenizer>();
  return nullptr;
}

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(std::string_view name) {
  if (auto tokenizer = find_tokenizer(name)) return tokenizer;
  throw UsageError("tokenizer \"{}\" is unknown, expected bytes", name);
}

std::vector<std::int32_t> bytes_of_tokens(const TokenizerIdentity& identity) {
  const auto tokenizer = find_tokenizer(identity.name);
  if (!tokenizer || tokenizer->identity() != identity) return {};
  std::vector<std::int32_t> bytes;
  for (std::int32_t id = 0; id < identity.vocab_size; ++id)
    bytes.push_back(id == identity.end_of_document
                        ? 0
                        : static_cast<std::int32_t>(tokenizer->decode(std::span(&id, 1)).size()));
  return bytes;
}

}  // namespace foretoken

#include "io/tokenizers/tokenizer_identity.h"

#include <regex>

#include <fmt/format.h>

namespace foretoken {

std::string to_string(const TokenizerIdentity& identity) {
  return fmt::format("{} (digest {}, vocabulary {}, end of document {})", identity.name, identity.digest,
                     identity.vocab_size, identity.end_of_document);
}

std::optional<TokenizerIdentity> parse_tokenizer_identity(const std::string& text) {
  static const std::regex form(R"((.+) \(digest (\S+), vocabulary (\d{1,18}), end of document (\d{1,9})\))");
  constexpr std::size_t longest = 512;  // std::regex recurses once per character
  std::smatch match;
  if (text.size() > longest || !std::regex_match(text, match, form)) return std::nullopt;
  return TokenizerIdentity{.name = match[1],
                           .digest = match[2],
                           .vocab_size = std::stoll(match[3]),
                           .end_of_document = std::stoi(match[4])};
}

}  // namespace foretoken

#pragma once
// Checks that text is well-formed XML: one root, nested tags, each attribute quoted and unique, no stray
// markup. A declaration or DOCTYPE before the root is skipped.

#include <cctype>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace foretoken::testing {

/// Describes the first error and its position; empty if the text is well-formed.
inline std::string xml_error(std::string_view text) {
  std::size_t at = 0;
  const auto error = [&](const std::string& what) {
    return what + " before \"" + std::string(text.substr(at, 60)) + "\"";
  };
  const auto is_name = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == ':' || c == '_';
  };
  const auto word = [&] {
    const std::size_t begin = at;
    while (at < text.size() && is_name(text[at])) ++at;
    return std::string(text.substr(begin, at - begin));
  };
  const auto skip_space = [&] {
    while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) ++at;
  };
  const auto stray = [](std::string_view content) {  // whether an '&' does not start an entity
    for (std::size_t amp = content.find('&'); amp != content.npos; amp = content.find('&', amp + 1)) {
      bool known = false;
      for (const std::string_view entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"})
        known |= content.substr(amp).starts_with(entity);
      if (!known) return true;
    }
    return false;
  };
  if (text.starts_with("<!DOCTYPE") || text.starts_with("<?xml")) at = text.find('>') + 1;

  std::vector<std::string> open;
  bool had_root = false;
  while (at < text.size()) {
    const std::size_t next = std::min(text.find('<', at), text.size());
    const std::string_view content = text.substr(at, next - at);
    if (stray(content)) return error("'&' does not start an entity");
    if (open.empty() && content.find_first_not_of(" \n\t\r") != content.npos)
      return error("text outside of the root");
    at = next;
    if (at == text.size()) break;
    ++at;
    if (at < text.size() && text[at] == '/') {
      ++at;
      const std::string name = word();
      if (open.empty() || open.back() != name) return error("</" + name + "> does not close the open tag");
      open.pop_back();
      if (at >= text.size() || text[at] != '>') return error("a closing tag without '>'");
      ++at;
      continue;
    }
    const std::string name = word();
    if (name.empty()) return error("'<' does not start a tag");
    if (open.empty() && had_root) return error("a second root");
    had_root = true;
    std::set<std::string> attributes;
    for (skip_space(); at < text.size() && text[at] != '>' && text[at] != '/'; skip_space()) {
      const std::string attribute = word();
      if (attribute.empty() || !attributes.insert(attribute).second)
        return error("an invalid or repeated attribute");
      if (text.substr(at, 2) != "=\"") return error("an attribute without a value");
      const std::size_t end = text.find('"', at + 2);
      if (end == text.npos) return error("an attribute without a closing quote");
      const std::string_view value = text.substr(at + 2, end - at - 2);
      if (value.find('<') != value.npos || stray(value)) return error("'<' or a stray '&' in an attribute");
      at = end + 1;
    }
    if (at < text.size() && text[at] == '/')
      ++at;
    else
      open.push_back(name);
    if (at >= text.size() || text[at] != '>') return error("a tag without '>'");
    ++at;
  }
  if (!open.empty()) return "<" + open.back() + "> is not closed";
  return had_root ? "" : "there is no root";
}

}  // namespace foretoken::testing

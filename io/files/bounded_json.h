#pragma once
// Parses JSON that another program may have written or damaged. nlohmann's dump() and some of its algorithms
// recurse once per level, so a text with 100,000 nested levels overflows the stack. The depth is therefore
// checked before the text is parsed.

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace foretoken {

/// Maximum number of nested objects and arrays. Files that Foretoken writes have at most 6 levels.
inline constexpr int deepest_json = 64;

/// Throws a DataError if the text has more than `deepest_json` levels.
void require_shallow_json(std::string_view text);

/// Parses a whole text. Throws a DataError if it has too many levels, Json::exception if it is not JSON.
template <class Json = nlohmann::json>
Json parse_json_bounded(std::string_view text) {
  require_shallow_json(text);
  return Json::parse(text);
}

/// A value as text for a message, cut after 60 bytes.
std::string brief(const nlohmann::json& value);

}  // namespace foretoken

#pragma once
// JSON from outside. nlohmann's dump() and some of its algorithms recurse once per level, so a text that is
// nested 100,000 deep overflows the stack: the depth is checked before anything is built.

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace foretoken {

/// Levels of objects and arrays. Our files have at most 6.
inline constexpr int deepest_json = 64;

/// A DataError where the text is nested deeper than `deepest_json`.
void require_shallow_json(std::string_view text);

/// Parses a whole text. A DataError where it is nested too deep, Json::exception where it is not JSON.
template <class Json = nlohmann::json>
Json parse_json_bounded(std::string_view text) {
  require_shallow_json(text);
  return Json::parse(text);
}

/// A value as text for a message, cut after 60 bytes.
std::string brief(const nlohmann::json& value);

}  // namespace foretoken

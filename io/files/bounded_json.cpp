#include "io/files/bounded_json.h"

#include "runtime/error.h"

namespace foretoken {

void require_shallow_json(std::string_view text) {
  // Counts brackets outside strings. The count is exact up to the first syntax error, where a parser stops.
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > deepest_json) throw DataError("damaged: nested deeper than {} levels", deepest_json);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
}

std::string brief(const nlohmann::json& value) {
  constexpr std::size_t most = 60;
  if (value.is_structured())
    return value.is_array() ? fmt::format("an array of {}", value.size())
                            : fmt::format("an object of {} entries", value.size());
  std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > most) text.replace(most, std::string::npos, "...");
  return text;
}

}  // namespace foretoken

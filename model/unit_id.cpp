#include "model/unit_id.h"

#include <charconv>

#include <fmt/format.h>

#include "runtime/error.h"

namespace foretoken {

namespace {

using Kind = UnitId::Kind;

/// A name consists of the words before its number, the number (if it has one) and the words after it.
struct Words {
  std::string_view before;
  std::string_view after;
  bool numbered = false;
};

Words words_of(Kind kind) {
  switch (kind) {
    case Kind::embedding:
      return {.before = "embedding", .after = {}};
    case Kind::layer:
      return {.before = "layer ", .after = {}, .numbered = true};
    case Kind::attention:
      return {.before = "layer ", .after = " attention", .numbered = true};
    case Kind::mlp:
      return {.before = "layer ", .after = " MLP", .numbered = true};
    case Kind::final_norm:
      return {.before = "final norm", .after = {}};
    case Kind::mtp:
      return {.before = "mtp ", .after = {}, .numbered = true};
    case Kind::head:
      return {.before = "head", .after = {}};
  }
  return {};
}

}  // namespace

std::string to_string(const UnitId& id) {
  const auto [before, after, numbered] = words_of(id.kind);
  return numbered ? fmt::format("{}{}{}", before, id.number, after) : std::string(before);
}

std::optional<UnitId> unit_named(std::string_view name) {
  int number = -1;
  if (const std::size_t at = name.find_first_of("0123456789"); at != std::string_view::npos)
    std::from_chars(name.data() + at, name.data() + name.size(), number);
  for (int kind = 0; !words_of(static_cast<Kind>(kind)).before.empty(); ++kind) {
    const Words words = words_of(static_cast<Kind>(kind));
    const UnitId id{.kind = static_cast<Kind>(kind), .number = words.numbered ? number : -1};
    if (to_string(id) == name) return id;
  }
  return std::nullopt;
}

UnitId id_of(const ParameterUnit& unit) {
  if (const std::optional<UnitId> id = unit_named(unit.name)) return *id;
  throw DefectError("unit \"{}\" is not a unit of the model", unit.name);
}

int unit_index(const Parameters& parameters, const UnitId& id) {
  return parameters.unit(to_string(id));
}

}  // namespace foretoken

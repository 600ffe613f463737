#pragma once
// Identities of the model's parameter units (runtime/operators/parameters/parameters.h), and the only
// conversion between identities and names.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/operators/parameters/parameters.h"

namespace foretoken {

struct UnitId {
  enum class Kind : std::uint8_t { embedding, layer, attention, mlp, final_norm, mtp, head };

  Kind kind = Kind::embedding;
  int number = -1;  // layer from 0 (layer, attention, mlp), depth from 1 (mtp); otherwise -1

  friend bool operator==(const UnitId&, const UnitId&) = default;
};

/// "embedding", "layer 7", "layer 7 attention", "layer 7 MLP", "final norm", "mtp 1", "head".
std::string to_string(const UnitId& id);

/// The identity whose to_string() is `name`; empty for any other name.
std::optional<UnitId> unit_named(std::string_view name);
/// Throws DefectError if unit_named() does not recognize the unit's name.
UnitId id_of(const ParameterUnit& unit);

/// Index of the unit in parameters.units(). Throws DefectError if the rank does not hold the unit.
int unit_index(const Parameters& parameters, const UnitId& id);

}  // namespace foretoken

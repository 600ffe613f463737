#pragma once
// Enumerators by name, for flags.

#include <map>
#include <string>

#include "runtime/enum_names.h"

namespace foretoken {

template <class Enum>
std::map<std::string, Enum> choices() {
  std::map<std::string, Enum> all;
  for (const Enum value : enumerators<Enum>()) all.emplace(name_of(value), value);
  return all;
}

}  // namespace foretoken

#pragma once
// Enumerators and their names, for files, settings and messages. An enum has names if it has a function
//
//   constexpr std::string_view name_of(Color color) {
//     switch (color) {
//       case Color::red:
//         return "red";
//     }
//     return {};
//   }
//
// in the namespace of the enum. The switch has no default, so the compiler (-Wswitch) reports an enumerator
// without a name. The enumerators must be consecutive from 0.

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace foretoken {

template <class Enum>
constexpr std::size_t enumerator_count() {
  std::size_t count = 0;
  while (!name_of(static_cast<Enum>(count)).empty()) ++count;
  return count;
}

/// All enumerators, in order.
template <class Enum>
constexpr std::array<Enum, enumerator_count<Enum>()> enumerators() {
  std::array<Enum, enumerator_count<Enum>()> all{};
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<Enum>(i);
  return all;
}

/// Returns the enumerator with this name, or nullopt.
template <class Enum>
constexpr std::optional<Enum> enum_named(std::string_view name) {
  for (const Enum value : enumerators<Enum>())
    if (name_of(value) == name) return value;
  return std::nullopt;
}

}  // namespace foretoken

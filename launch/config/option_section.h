#pragma once
// Binds a key of the option table to a member of Config. Only launch/config/options.cpp includes it.

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "launch/config/options.h"
#include "runtime/enum_names.h"

namespace foretoken::detail {

/// The domain, restricted to the range of the member's type.
template <class Integer>
OptionDomain fitted(OptionDomain domain) {
  if constexpr (sizeof(Integer) < sizeof(std::int64_t)) {
    const double max = std::numeric_limits<Integer>::max();
    domain.holds = [holds = std::move(domain.holds), max](double x) { return holds(x) && x <= max; };
  }
  return domain;
}

/// Adds the options of one section, each bound to a member of the section's struct.
template <class Part>
class Section {
 public:
  Section(std::vector<Option>& table, const char* name, Part Config::*part)
      : table_(table), name_(name), part_(part) {}

  template <class Integer>
  requires(std::is_integral_v<Integer> &&
           !std::is_same_v<Integer, bool>) Option& add(const char* key, Integer Part::*member,
                                                       OptionDomain domain, const char* help) {
    Option& option = bind<std::int64_t>(key, Option::Type::integer, member, help);
    option.domain = fitted<Integer>(std::move(domain));
    return option;
  }

  Option& add(const char* key, double Part::*member, OptionDomain domain, const char* help) {
    Option& option = bind<double>(key, Option::Type::number, member, help);
    option.domain = std::move(domain);
    return option;
  }

  Option& add(const char* key, bool Part::*member, const char* help) {
    return bind<bool>(key, Option::Type::boolean, member, help);
  }

  Option& add(const char* key, std::string Part::*member, const char* help) {
    return bind<std::string>(key, Option::Type::text, member, help);
  }

  Option& add(const char* key, std::string Part::*member, std::vector<std::string> choices,
              const char* help) {
    Option& option = bind<std::string>(key, Option::Type::choice, member, help);
    option.choices = std::move(choices);
    return option;
  }

  Option& add(const char* key, std::vector<double> Part::*member, OptionDomain domain, const char* help) {
    Option& option = bind<std::vector<double>>(key, Option::Type::numbers, member, help);
    option.domain = std::move(domain);
    return option;
  }

  Option& add(const char* key, std::vector<NumberPair> Part::*member, OptionDomain domain, const char* help) {
    Option& option = bind<std::vector<NumberPair>>(key, Option::Type::pairs, member, help);
    option.domain = std::move(domain);
    return option;
  }

  /// The choices are the names of the enumerators (runtime/enum_names.h).
  template <class Enum>
  requires(std::is_enum_v<Enum>) Option& add(const char* key, Enum Part::*member, std::string help) {
    Option& option = entry(key, Option::Type::choice, std::move(help));
    for (const Enum value : enumerators<Enum>()) option.choices.emplace_back(name_of(value));
    option.get = [part = part_, member](const Config& config) {
      return std::string(name_of(config.*part.*member));
    };
    option.set = [part = part_, member](Config& config, const OptionValue& value) {
      config.*part.*member = enum_named<Enum>(std::get<std::string>(value)).value();
    };
    return option;
  }

 private:
  Option& entry(const char* key, Option::Type type, std::string help) {
    Option& option = table_.emplace_back();
    option.section = name_;
    option.key = key;
    option.type = type;
    option.help = std::move(help);
    return option;
  }

  /// An option with value type Value whose member has type T.
  template <class Value, class T>
  Option& bind(const char* key, Option::Type type, T Part::*member, const char* help) {
    Option& option = entry(key, type, help);
    option.get = [part = part_, member](const Config& config) {
      return OptionValue(static_cast<Value>(config.*part.*member));
    };
    option.set = [part = part_, member](Config& config, const OptionValue& value) {
      config.*part.*member = static_cast<T>(std::get<Value>(value));
    };
    return option;
  }

  std::vector<Option>& table_;
  const char* name_;
  Part Config::*part_;
};

}  // namespace foretoken::detail

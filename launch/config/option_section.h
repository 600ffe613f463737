#pragma once
// Binds a key of the option table to a member of Config. Only launch/config/options.cpp includes it.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "launch/config/options.h"

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

  /// The choices name the enumerators in their order, starting at 0.
  template <class Enum>
  requires(std::is_enum_v<Enum>) Option& add(const char* key, Enum Part::*member,
                                             std::vector<std::string> choices, const char* help) {
    Option& option = entry(key, Option::Type::choice, help);
    option.choices = choices;
    option.get = [part = part_, member, choices](const Config& config) {
      return choices.at(static_cast<std::size_t>(config.*part.*member));
    };
    option.set = [part = part_, member, choices](Config& config, const OptionValue& value) {
      const auto found = std::find(choices.begin(), choices.end(), std::get<std::string>(value));
      config.*part.*member = static_cast<Enum>(found - choices.begin());
    };
    return option;
  }

 private:
  Option& entry(const char* key, Option::Type type, const char* help) {
    Option& option = table_.emplace_back();
    option.section = name_;
    option.key = key;
    option.type = type;
    option.help = help;
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

#pragma once
// Configuration as parsed TOML: what files have in common. Only the .cpp files that read TOML include it.

#include <set>
#include <string>
#include <string_view>

#include "launch/config.h"

namespace foretoken {
/// toml++ 3.3 assumes what some texts break, a line that ends after "[" for one, and in a release build
/// tells the compiler so: undefined behaviour. Here a broken assumption is an exception.
struct BrokenTomlAssumption {};
[[noreturn]] inline void throw_broken_toml_assumption() {
  throw BrokenTomlAssumption{};
}
}  // namespace foretoken

#pragma push_macro("NDEBUG")
#undef NDEBUG
#define TOML_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : foretoken::throw_broken_toml_assumption())
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

namespace foretoken {

/// A UsageError "NAME:LINE: what is wrong" for what is not TOML.
toml::table parse_toml(std::string_view text, const std::string& name);

/// The text of a file. A UsageError where it cannot be read.
std::string read_toml_file(const std::string& path);

/// Applies [section] key = value over the config, the tables named `others` left out; `name` is what messages
/// call the file.
void apply_table(Config& config, const toml::table& table, const std::string& name,
                 const std::set<std::string_view>& others = {});
/// One of its keys.
void apply_key(Config& config, const std::string& section, const std::string& key, const toml::node& node,
               const std::string& name);

/// "train.toml:12"
std::string line_of(const std::string& name, const toml::node& node);

/// "a table", "an integer"
std::string type_in_words(const toml::node& node);

}  // namespace foretoken

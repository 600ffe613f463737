#pragma once
// Fills a Config from TOML files and from --set; later ones win. Every mistake is a UsageError that ends
// with its place: "unknown key model.hidden_sizes; did you mean hidden_size? (train.toml:12)". An option
// that is not set may follow from options that are (Derivation in launch/config/options.h).
//
// Paths become absolute: a path in a file is relative to the file's folder, a path in --set to the working
// directory. "~/" at the start is the home directory.

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "launch/config/config.h"
#include "runtime/error.h"

namespace foretoken {

/// Applies to the config the settings of a TOML text that a run wrote. Its paths are absolute and stay as
/// they are. `name` names the text in messages.
void apply_toml(Config& config, std::string_view text, const std::string& name);

/// Applies the settings of a TOML file.
void apply_toml_file(Config& config, const std::string& path);

/// Applies flags "section.key=value". Values are TOML, except that strings need no quotes and lists no
/// brackets. If two flags set one key, the last one wins.
void apply_sets(Config& config, const std::vector<std::string>& sets);

/// All settings as TOML that loads back to the same config.
std::string to_toml(const Config& config);

/// Makes a path absolute as described above: relative to `folder`, or to the working directory if `folder` is
/// empty. An empty path stays empty.
std::string absolute_path(const std::string& path, const std::string& folder = {});

/// The end of a message about these options: where they were set, such as " (train.toml:12, --set
/// parallel.pp=2)"; empty if no file and no flag sets them.
std::string origin_of(const Config& config, std::initializer_list<std::string_view> names);

/// A message about these options. It ends with the places that set them.
template <class... Arguments>
UsageError usage_error(const Config& config, std::initializer_list<std::string_view> names,
                       fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  return UsageError("{}{}", fmt::format(format, std::forward<Arguments>(arguments)...),
                    origin_of(config, names));
}

}  // namespace foretoken

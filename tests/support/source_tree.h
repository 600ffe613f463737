#pragma once
// Files of the source tree that tests read.

#include <string>
#include <string_view>

namespace foretoken::testing {

/// The absolute path of `path`, which is relative to the top of the source tree.
std::string in_source_tree(std::string_view path);

}  // namespace foretoken::testing

#include "tests/support/source_tree.h"

#include <fmt/format.h>

namespace foretoken::testing {

std::string in_source_tree(std::string_view path) {
  return fmt::format("{}/{}", FORETOKEN_SOURCE_DIR, path);
}

}  // namespace foretoken::testing

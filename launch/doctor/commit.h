#pragma once

namespace foretoken {

/// The commit that the program was built from, with a "+" if files differed from it: "0335df8+". "unknown"
/// if it was built outside a git checkout.
const char* commit();

}  // namespace foretoken

#pragma once
// Catch2 of either major version: Debian 12 ships 2.13, Ubuntu 24.04 ships 3.

#include <string>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
#define FORETOKEN_CATCH_CONTAINS Catch::Matchers::ContainsSubstring
#else
#include <catch2/catch.hpp>
#define FORETOKEN_CATCH_CONTAINS Catch::Matchers::Contains
#endif

namespace foretoken::testing {

/// Matches a string that contains `part`.
inline auto contains(const std::string& part) {
  return FORETOKEN_CATCH_CONTAINS(part);
}

}  // namespace foretoken::testing

#pragma once
// Checks that a call throws an error with a given message.

#include <string>

#include "runtime/error.h"
#include "tests/support/catch.h"

namespace foretoken {

/// Requires that `call` throws an E whose message contains `fragment`.
template <class E, class Call>
void expect_error(const std::string& fragment, Call&& call) {
  std::string message = "(nothing was thrown)";
  try {
    call();
  } catch (const E& error) {
    message = error.what();
  }
  INFO("expected \"" << fragment << "\" in \"" << message << "\"");
  REQUIRE(message.find(fragment) != std::string::npos);
}

}  // namespace foretoken

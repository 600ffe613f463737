#include "runtime/plural.h"

#include <cstdint>

#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE("a count of one takes the singular, any other the plural") {
  CHECK(counted(1, "layer") == "1 layer");
  CHECK(counted(0, "layer") == "0 layers");
  CHECK(counted(std::size_t{2}, "layer") == "2 layers");
  CHECK(counted(std::int64_t{1}, "branch", "branches") == "1 branch");
  CHECK(counted(std::uint8_t{3}, "branch", "branches") == "3 branches");
}

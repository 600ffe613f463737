#include "runtime/median.h"

#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE("the median of an even number of values is the mean of the two in the middle") {
  CHECK(median({7}) == 7);
  CHECK(median({9, 1, 5}) == 5);
  CHECK(median({9, 1}) == 5);
  CHECK(median({8, 1, 6, 2}) == 4);
}

TEST_CASE("the lower and upper median of an even number of values are the two in the middle") {
  CHECK(lower_median({8, 1, 6, 2}) == 2);
  CHECK(upper_median({8, 1, 6, 2}) == 6);
  CHECK(lower_median({9, 1, 5}) == 5);
  CHECK(upper_median({9, 1, 5}) == 5);
  CHECK(lower_median({3}) == 3);
  CHECK(upper_median({3}) == 3);
}

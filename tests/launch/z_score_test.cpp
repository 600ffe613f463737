#include "launch/training/z_score.h"

#include <cmath>
#include <limits>

#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE("a z-score is the distance from the window's mean in standard deviations") {
  ZScore scores;
  for (int i = 0; i < 200; ++i)
    scores.add(i < 72 ? 1e6 : i % 2 == 0 ? 1 : 3);  // the window drops the first 72
  CHECK(scores.of(2).value() == Approx(0));
  CHECK(scores.of(4.5).value() == Approx(2.5));
}

TEST_CASE("there is no z-score for too few numbers, for equal numbers, or for a number that is not finite") {
  ZScore scores;
  for (std::size_t i = 0; i + 1 < ZScore::fewest; ++i) scores.add(static_cast<double>(i));
  CHECK_FALSE(scores.of(1));
  scores.add(std::nan(""));  // not added
  CHECK_FALSE(scores.of(1));
  scores.add(5);
  CHECK(scores.of(1));
  CHECK_FALSE(scores.of(std::numeric_limits<double>::infinity()));
  ZScore equal;
  for (int i = 0; i < 20; ++i) equal.add(7);
  CHECK_FALSE(equal.of(8));
}

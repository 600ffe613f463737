#include "launch/config/spelling.h"

#include <vector>

#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE("the closest word has the fewest edits, and a word with too many is not close") {
  const std::vector<std::string> words{"prompt", "prompt-file", "max-tokens", "tree", "top-k", "top-p"};
  CHECK(closest_spelling("promt", words) == "prompt");
  CHECK(closest_spelling("prompt_file", words) == "prompt-file");
  CHECK(closest_spelling("max-tokesn", words) == "max-tokens");  // two neighbouring letters are swapped
  CHECK(closest_spelling("top-x", words) == "top-k");            // the first of several at equal distance
  CHECK(closest_spelling("temperature", words).empty());
  CHECK(closest_spelling("", words).empty());
}

TEST_CASE("two swapped letters are one edit") {
  std::size_t best = std::string_view::npos;
  CHECK(is_closer_spelling("lr", "rl", best));
  CHECK(best == 1);
  CHECK_FALSE(is_closer_spelling("xy", "rl", best));
}

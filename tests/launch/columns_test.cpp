#include "launch/console/columns.h"

#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE("words are wrapped by characters, and a long word has a line of its own") {
  CHECK(wrapped("one two  three", 7) == std::vector<std::string>{"one two", "three"});
  CHECK(wrapped("λ×λ λ×λ λ", 7) == std::vector<std::string>{"λ×λ λ×λ", "λ"});
  CHECK(wrapped("a unbreakable b", 5) == std::vector<std::string>{"a", "unbreakable", "b"});
  CHECK(wrapped("", 5).empty());
}

TEST_CASE("the right column is indented, and a long left column has a line of its own") {
  const std::string words(70, 'x');
  CHECK(in_columns("left", "right", 8) == "left    right\n");
  CHECK(in_columns("left", words + " other words", 25) ==
        "left" + std::string(21, ' ') + words + "\n" + std::string(25, ' ') + "other words\n");
  CHECK(in_columns("a long left", "right", 8) == "a long left\n        right\n");
  CHECK(in_columns("left", "", 8) == "left\n");
}

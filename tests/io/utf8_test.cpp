#include "io/files/utf8.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE("the first byte that is not UTF-8 is found, and every valid sequence is accepted") {
  const std::vector<std::string> valid{"",
                                       "plain",
                                       "Größe 😀",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       std::string(1, '\0')};
  for (const std::string& text : valid) {
    CAPTURE(text);
    CHECK(!first_byte_not_utf8(text));
    CHECK(first_byte_not_utf8(text + "\xff") == text.size());
  }
  // A lone continuation byte, overlong forms, a surrogate, a code above U+10FFFF, and truncated sequences.
  for (const char* text :
       {"\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xc3x"}) {
    CAPTURE(text);
    CHECK(first_byte_not_utf8(text) == 0U);
  }
}

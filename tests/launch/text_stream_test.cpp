// Text as it is shown: whole characters, and nothing past a stop text.
#include "launch/text_stream.h"

#include "tests/support/catch.h"

using foretoken::TextStream;

TEST_CASE("a character is shown once its last byte has come") {
  TextStream stream({});
  CHECK(stream.push("a\xC3") == "a");
  CHECK(stream.push("\xA4\xE2\x82") == "\xC3\xA4");
  CHECK(stream.push("\xAC") == "\xE2\x82\xAC");
  CHECK(stream.push("\xF0\x9F\x98") == "");
  CHECK(stream.push("\x80!") == "\xF0\x9F\x98\x80!");
  CHECK(stream.finish() == "");
}

TEST_CASE("bytes that are no UTF-8 become U+FFFD, and what follows them is whole") {
  const std::string broken = "\xEF\xBF\xBD";
  const auto all = [](const std::string& bytes) {
    TextStream stream({});
    std::string text;
    for (const char byte : bytes) text += stream.push(std::string(1, byte));
    return text + stream.finish();
  };
  CHECK(all("a\xFFz") == "a" + broken + "z");
  CHECK(all("\x80\x81") == broken + broken);
  CHECK(all("\xE2\x82z") == broken + "z");                 // breaks off
  CHECK(all("\xC0\xAF") == broken + broken);               // overlong
  CHECK(all("\xED\xA0\x80") == broken + broken + broken);  // a surrogate
  CHECK(all("\xF4\x90\x80\x80") == broken + broken + broken + broken);
  CHECK(all("x\xF0\x9F\x98") == "x" + broken);  // the text's end
}

TEST_CASE("a stop text ends the text before it, also where it comes in pieces") {
  TextStream stream({"END", "\n\n"});
  CHECK(stream.push("one E") == "one ");
  CHECK(stream.push("N") == "");
  CHECK(stream.push("V\n") == "ENV");
  CHECK_FALSE(stream.stopped());
  CHECK(stream.push("two\nEND of it\n\n") == "\ntwo\n");
  CHECK(stream.stopped());
  CHECK(stream.push("more") == "");
  CHECK(stream.finish() == "");
}

TEST_CASE("what may begin a stop text is shown where the text ends") {
  TextStream stream({"aab"});
  CHECK(stream.push("xaa") == "x");
  CHECK(stream.push("a") == "a");
  CHECK(stream.finish() == "aa");
}

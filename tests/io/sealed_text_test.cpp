#include "io/files/sealed_text.h"

#include "io/files/digest.h"
#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE(
    "every flipped bit and every truncation of a sealed text is found, and an edited text has no seal") {
  const std::string text = sealed("[model]\nhidden_size = 12\nname = \"Größe\"\n");
  CHECK(seal_error(text).empty());
  CHECK(seal_error(sealed("")).empty());
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      CAPTURE(at, bit);
      REQUIRE_FALSE(seal_error(flipped).empty());
    }
    if (at >= 12) REQUIRE_FALSE(seal_error(text.substr(0, at)).empty());
  }
  CHECK_THAT(seal_error(text + "x"), testing::contains("was damaged or edited"));
  CHECK(seal_error("").empty());
  CHECK(seal_error("[model]\nhidden_size = 12\n").empty());
}

TEST_CASE("every flipped bit of a line with a check is found, and a line without a check is accepted") {
  const std::string plain = R"({"step":12,"loss":7.25,"time":"2026-11-28T07:48:56Z"})";
  const std::string line = sealed_line(plain);
  CHECK(line == R"({"step":12,"loss":7.25,"time":"2026-11-28T07:48:56Z","check":")" +
                    digest_of(std::string_view(plain).substr(0, plain.size() - 1)).substr(0, 16) + "\"}");
  CHECK(line_error(line).empty());
  CHECK(line_error(plain).empty());
  CHECK(line_error("{}").empty());
  for (std::size_t at = 0; at < line.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = line;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      CAPTURE(at, bit);
      REQUIRE_FALSE(line_error(flipped).empty());
    }
}

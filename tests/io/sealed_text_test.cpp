#include "io/sealed_text.h"

#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE("every flipped bit and every cut of a sealed text is found, and a person's text has no seal") {
  const std::string text = sealed("[model]\nhidden_size = 12\nname = \"Größe\"\n");
  CHECK(seal_fault(text).empty());
  CHECK(seal_fault(sealed("")).empty());
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      CAPTURE(at, bit);
      REQUIRE_FALSE(seal_fault(flipped).empty());
    }
    if (at >= 12) REQUIRE_FALSE(seal_fault(text.substr(0, at)).empty());
  }
  CHECK_THAT(seal_fault(text + "x"), testing::contains("was damaged or edited"));
  CHECK(seal_fault("").empty());
  CHECK(seal_fault("[model]\nhidden_size = 12\n").empty());
}

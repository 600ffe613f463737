// Text that is shown while it arrives: whole characters, and nothing after a stop text.
#include "launch/generate/text_stream.h"

#include <algorithm>
#include <random>

#include "tests/support/catch.h"
#include "tests/support/models/generation_lab.h"

using foretoken::TextStream;
using foretoken::testing::GenerationCase;
using foretoken::testing::GenerationRun;

namespace {

using Strings = std::vector<std::string>;

/// Reference: the text before the stop text that is completed first, or before the longest of them if one
/// byte completes several.
std::string before_stop(const std::string& text, const Strings& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops)
      if (std::string_view(text).substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

/// The text that a stream without stop texts shows for the bytes.
std::string shown(const std::string& bytes) {
  TextStream stream({});
  const std::string text = stream.push(bytes);
  return text + stream.finish();
}

/// The bytes of a tiny model's eleven tokens: letters, and parts of two- and three-byte characters.
const Strings pieces{"a", "b", "c", "d", "\xC3", "\xA4", "\xE2", "\x82", "\xAC", "bc", "\n"};

/// Random stop texts: some overlap, some have a common prefix, some end inside a character.
Strings random_stops(std::mt19937& random, const std::string& text) {
  Strings stops(1 + random() % 4);
  for (std::string& stop : stops) {
    const std::size_t size = 1 + random() % 5;
    if (random() % 2 == 0 && text.size() > size) {
      stop = text.substr(random() % (text.size() - size), size);
    } else {
      while (stop.size() < size) stop += pieces[random() % pieces.size()];
    }
  }
  return stops;
}

}  // namespace

TEST_CASE("a character is shown once its last byte has arrived") {
  TextStream stream({});
  CHECK(stream.push("a\xC3") == "a");
  CHECK(stream.push("\xA4\xE2\x82") == "\xC3\xA4");
  CHECK(stream.push("\xAC") == "\xE2\x82\xAC");
  CHECK(stream.push("\xF0\x9F\x98") == "");
  CHECK(stream.push("\x80!") == "\xF0\x9F\x98\x80!");
  CHECK(stream.finish() == "");
}

TEST_CASE("bytes that are not UTF-8 become U+FFFD, and the characters after them are intact") {
  const std::string broken = "\xEF\xBF\xBD";
  const auto all = [](const std::string& bytes) {
    TextStream stream({});
    std::string text;
    for (const char byte : bytes) text += stream.push(std::string(1, byte));
    return text + stream.finish();
  };
  CHECK(all("a\xFFz") == "a" + broken + "z");
  CHECK(all("\x80\x81") == broken + broken);
  CHECK(all("\xE2\x82z") == broken + "z");                 // incomplete
  CHECK(all("\xC0\xAF") == broken + broken);               // overlong
  CHECK(all("\xED\xA0\x80") == broken + broken + broken);  // a surrogate
  CHECK(all("\xF4\x90\x80\x80") == broken + broken + broken + broken);
  CHECK(all("x\xF0\x9F\x98") == "x" + broken);  // the text ends here
}

TEST_CASE("a stop text ends the text before it, also if it arrives in pieces") {
  TextStream stream({"END", "\n\n"});
  CHECK(stream.push("one E") == "one ");
  CHECK(stream.push("N") == "");
  CHECK(stream.push("V\n") == "ENV");
  CHECK_FALSE(stream.stop().has_value());
  CHECK(stream.push("two\nEND of it\n\n") == "\ntwo\n");
  CHECK(stream.stop() == "END");
  CHECK(stream.push("more") == "");
  CHECK(stream.finish() == "");
}

TEST_CASE("bytes that might begin a stop text are shown at the end of the text") {
  TextStream stream({"aab"});
  CHECK(stream.push("xaa") == "x");
  CHECK(stream.push("a") == "a");
  CHECK(stream.finish() == "aa");
}

TEST_CASE("of overlapping stop texts the first complete one ends the text, in any division into pieces") {
  for (const std::size_t size : {1, 2, 3, 6}) {
    TextStream stream({"bcdef", "cd"});
    const std::string text = "abcdefg";
    std::string whole;
    for (std::size_t at = 0; at < text.size(); at += size) whole += stream.push(text.substr(at, size));
    CHECK(whole + stream.finish() == "ab");
    CHECK(stream.stop() == "cd");
  }
  TextStream longest({"d", "bcd", "cd"});
  CHECK(longest.push("abcd") == "a");
}

TEST_CASE("random texts in random pieces end at random stop texts as the reference does") {
  std::mt19937 random(7);
  for (int trial = 0; trial < 5000; ++trial) {
    std::string text;
    for (std::size_t i = random() % 24; i > 0; --i) text += pieces[random() % pieces.size()];
    const Strings stops = random_stops(random, text);
    TextStream stream(stops);
    std::string whole;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = 1 + random() % 7;
      whole += stream.push(text.substr(at, size));
      at += size;
    }
    whole += stream.finish();
    const std::string expected = before_stop(text, stops);
    CAPTURE(trial, text, stops);
    REQUIRE(whole == shown(expected));
    REQUIRE(stream.stop().has_value() == (expected != text));
    if (stream.stop()) REQUIRE(text.substr(expected.size()).starts_with(*stream.stop()));
  }
}

TEST_CASE("stop texts end a text after the same token with and without speculation") {
  const auto heads = GENERATE(from_range(foretoken::testing::every_kind_of_heads(3)));
  CAPTURE(heads.name);
  const foretoken::testing::Texts prompts{{3, 1, 4, 1, 5, 9}, {5}, {2, 7, 1}};
  std::mt19937 random(11);
  const auto written = [&](const foretoken::MtpConfig& mtp, const foretoken::TreeShape& drafts,
                           const Strings& stops) {
    GenerationCase of{
        .mtp = mtp,
        .options = {.sampling = {.temperature = 0}, .max_tokens = 30, .vocabulary = 11, .drafts = drafts},
        .prompts = prompts};
    std::vector<TextStream> streams(prompts.size(), TextStream(stops));
    Strings texts(prompts.size());
    of.last_token = [&](std::size_t i, std::span<const std::int32_t> tokens) -> std::optional<std::size_t> {
      for (std::size_t at = 0; at < tokens.size(); ++at) {
        texts[i] += streams[i].push(pieces[static_cast<std::size_t>(tokens[at])]);
        if (streams[i].stop()) return at + 1;
      }
      return std::nullopt;
    };
    GenerationRun run = foretoken::testing::generate(of);
    for (std::size_t i = 0; i < texts.size(); ++i) texts[i] += streams[i].finish();
    return std::pair(texts, run);
  };
  const Strings whole = written({}, {}, {}).first;
  for (int trial = 0; trial < 12; ++trial) {
    const Strings stops = random_stops(random, whole[random() % whole.size()]);
    const auto [plain, plain_run] = written({}, {}, stops);
    for (const foretoken::TreeShape& drafts : {foretoken::TreeShape{1, 1, 1, 1}, {3, 2, 2}}) {
      CAPTURE(trial, stops, drafts);
      const auto [text, run] = written(heads.mtp, drafts, stops);
      CHECK(text == plain);
      CHECK(run.texts == plain_run.texts);
      // Every token of a text after the first is an accepted draft or the token that the model adds in each
      // round.
      std::int64_t tokens = 0;
      for (std::size_t i = 0; i < prompts.size(); ++i)
        tokens += static_cast<std::int64_t>(run.texts[i].size() - prompts[i].size());
      const foretoken::SpeculationStatistics& s = run.statistics;
      CHECK(s.accepted <= tokens);
      CHECK(tokens <= static_cast<std::int64_t>(prompts.size()) + s.rounds + s.accepted + s.plain_rounds);
    }
  }
}

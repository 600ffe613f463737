// Descriptions of a generated text: JSON, and the reason it ended.
#include "launch/generate/written_text.h"

#include <nlohmann/json.hpp>

#include "tests/support/catch.h"

using namespace foretoken;
using nlohmann::json;

TEST_CASE("a text as JSON is one line that parses back to the text, for all bytes") {
  WrittenText text;
  text.prompt = "a \"quoted\"\tprompt\nof two lines \\ with a byte \xC3";
  text.text = std::string("\x1b[31m\0", 6) + "\xC3\xA4\xE2\x82\xAC";
  text.prompt_tokens = 3;
  text.tokens = 7;
  text.stop_reason = StopReason::stop_text;
  text.stop_text = "\n\n";
  text.seconds = 0.5;
  const std::string line = json_line(text);
  CHECK(line.find('\n') == line.size() - 1);
  const json read = json::parse(line);
  CHECK(read["prompt"] == "a \"quoted\"\tprompt\nof two lines \\ with a byte \xEF\xBF\xBD");
  CHECK(read["text"] == text.text);
  CHECK(read["prompt_tokens"] == 3);
  CHECK(read["tokens"] == 7);
  CHECK(read["stop_reason"] == "stop_text");
  CHECK(read["stop_text"] == "\n\n");
  CHECK(read["seconds"] == 0.5);
  CHECK(read["tokens_per_second"].is_null());
  CHECK_FALSE(read.contains("speculation"));
}

TEST_CASE("the JSON of a text has its drafts and the acceptance of each depth that was drafted") {
  WrittenText text;
  text.tokens_per_second = 250;
  text.drafts.emplace();
  text.drafts->rounds = 4;
  text.drafts->drafted = 8;
  text.drafts->accepted = 6;
  text.drafts->drafted_at = {4, 4, 0};
  text.drafts->accepted_at = {4, 2, 0};
  const json read = json::parse(json_line(text));
  CHECK(read["tokens_per_second"] == 250);
  CHECK_FALSE(read.contains("stop_text"));
  CHECK(read["speculation"] == json{{"rounds", 4},
                                    {"plain_rounds", 0},
                                    {"drafted", 8},
                                    {"accepted", 6},
                                    {"acceptance_rate", 0.75},
                                    {"mean_acceptance_length", 2.5},
                                    {"acceptance_by_depth", {1.0, 0.5}}});
}

TEST_CASE("every stop reason has a name and a description") {
  WrittenText text;
  text.tokens = 1;
  const auto names = [&](StopReason reason) {
    text.stop_reason = reason;
    return std::pair(json::parse(json_line(text))["stop_reason"].get<std::string>(), stop_in_words(text));
  };
  using Names = std::pair<std::string, std::string>;
  CHECK(names(StopReason::length) == Names("length", "1 new token (--max-tokens)"));
  CHECK(names(StopReason::positions) ==
        Names("positions", "the model's last position after 1 new token (max_position_embeddings)"));
  CHECK(names(StopReason::end_of_text) == Names("end_of_text", "the end of the text after 1 new token"));
  text.stop_text = "\n\n";
  text.tokens = 5;
  CHECK(names(StopReason::stop_text) == Names("stop_text", "the stop text \"\\n\\n\" after 5 new tokens"));
}

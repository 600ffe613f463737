#pragma once
// A text that generate has written: its characters, why it ended, and its tokens and seconds.

#include <cstdint>
#include <optional>
#include <string>

#include "model/generation/generator.h"

namespace foretoken {

enum class StopReason {
  length,       // --max-tokens new tokens
  positions,    // the model has no more positions
  stop_text,    // a text of --stop is complete
  end_of_text,  // the model chose the end-of-document token
};

struct WrittenText {
  std::string prompt;
  std::string text;  // without the prompt and without the stop text
  std::int64_t prompt_tokens = 0;
  std::int64_t tokens = 0;  // new tokens, including the tokens of the stop text and the end-of-document token
  StopReason stop_reason = StopReason::length;
  std::string stop_text;  // set for StopReason::stop_text
  double seconds_to_first_token = 0;
  double seconds = 0;                           // from the start of all texts to the end of this one
  std::optional<double> tokens_per_second;      // after the first token; empty for a text of one token
  std::optional<SpeculationStatistics> drafts;  // empty without speculation
};

/// Example: "128 new tokens (--max-tokens)".
std::string stop_in_words(const WrittenText& text);

/// One line of JSON that ends with a newline. Bytes that are not UTF-8 become U+FFFD.
std::string json_line(const WrittenText& text);

}  // namespace foretoken

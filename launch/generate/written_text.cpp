#include "launch/generate/written_text.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "io/files/printable.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

using Json = nlohmann::ordered_json;

const char* name_of(StopReason reason) {
  switch (reason) {
    case StopReason::length:
      return "length";
    case StopReason::positions:
      return "positions";
    case StopReason::stop_text:
      return "stop_text";
    case StopReason::end_of_text:
      return "end_of_text";
  }
  return "";
}

Json json_of(const SpeculationStatistics& drafts) {
  Json json;
  json["rounds"] = drafts.rounds;
  json["plain_rounds"] = drafts.plain_rounds;
  json["drafted"] = drafts.drafted;
  json["accepted"] = drafts.accepted;
  json["acceptance_rate"] = drafts.acceptance_rate();
  json["mean_acceptance_length"] = drafts.mean_acceptance_length();
  json["acceptance_by_depth"] = drafts.acceptance_by_depth();
  return json;
}

}  // namespace

std::string stop_in_words(const WrittenText& text) {
  const std::string tokens = counted(text.tokens, "new token");
  switch (text.stop_reason) {
    case StopReason::length:
      return tokens + " (--max-tokens)";
    case StopReason::positions:
      return fmt::format("the model's last position after {} (max_position_embeddings)", tokens);
    case StopReason::stop_text:
      return fmt::format("the stop text \"{}\" after {}", printable(text.stop_text), tokens);
    case StopReason::end_of_text:
      return fmt::format("the end of the text after {}", tokens);
  }
  return "";
}

std::string json_line(const WrittenText& text) {
  Json json;
  json["prompt"] = text.prompt;
  json["text"] = text.text;
  json["prompt_tokens"] = text.prompt_tokens;
  json["tokens"] = text.tokens;
  json["stop_reason"] = name_of(text.stop_reason);
  if (text.stop_reason == StopReason::stop_text) json["stop_text"] = text.stop_text;
  json["seconds_to_first_token"] = text.seconds_to_first_token;
  json["seconds"] = text.seconds;
  json["tokens_per_second"] = text.tokens_per_second ? Json(*text.tokens_per_second) : Json(nullptr);
  if (text.drafts) json["speculation"] = json_of(*text.drafts);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace foretoken

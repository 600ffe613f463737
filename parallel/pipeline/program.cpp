#include "parallel/pipeline/program.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "runtime/enum_names.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr int largest_number = 999'999;

/// Parses a number from 0 to largest_number at the start of `text` and removes it.
std::optional<int> take_number(std::string_view& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0 || number > largest_number) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

std::optional<ActionKind> take_kind(std::string_view& text) {
  const std::string_view word = text.substr(0, std::min(text.find_first_of("0123456789"), text.size()));
  const std::optional<ActionKind> kind = enum_named<ActionKind>(word);
  if (kind) text.remove_prefix(word.size());
  return kind;
}

/// "F B I W SF RF SB RB"
std::string all_letters() {
  std::string text;
  for (const ActionKind kind : enumerators<ActionKind>())
    text += fmt::format("{}{}", text.empty() ? "" : " ", name_of(kind));
  return text;
}

std::optional<Action> parse_action(std::string_view word) {
  const std::optional<int> stage = take_number(word);
  if (!stage) return std::nullopt;
  const std::optional<ActionKind> kind = take_kind(word);
  if (!kind) return std::nullopt;
  const std::optional<int> microbatch = take_number(word);
  if (!microbatch || !word.empty()) return std::nullopt;
  return Action{*kind, *stage, *microbatch};
}

}  // namespace

std::string to_string(const Action& action) {
  return fmt::format("{}{}{}", action.stage, name_of(action.kind), action.microbatch);
}

std::string to_string(const PipelineShape& shape) {
  return fmt::format("pp {} × v {}, {} microbatch{}", shape.pp, shape.virtual_stages, shape.microbatches,
                     shape.microbatches == 1 ? "" : "es");
}

std::string to_string(const Program& program) {
  std::string text;
  for (const std::vector<Action>& rank : program.ranks) {
    for (std::size_t i = 0; i < rank.size(); ++i) {
      if (i > 0) text += ' ';
      text += to_string(rank[i]);
    }
    text += '\n';
  }
  return text;
}

Program parse_program(std::string_view text) {
  if (text.empty()) throw UsageError("pipeline program: the text is empty, expected one line per rank");
  if (text.back() == '\n') text.remove_suffix(1);
  const int pp = static_cast<int>(std::count(text.begin(), text.end(), '\n')) + 1;

  Program program{{.pp = pp}, std::vector<std::vector<Action>>(static_cast<std::size_t>(pp))};
  int last_stage = 0;
  int last_microbatch = 0;
  int rank = 0;
  std::size_t line_begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '\n') {
      ++rank;
      line_begin = ++at;
      continue;
    }
    if (text[at] == ' ') {
      ++at;
      continue;
    }
    const std::size_t end = std::min(text.find_first_of(" \n", at), text.size());
    const std::string_view word = text.substr(at, end - at);
    const std::size_t column = at - line_begin + 1;
    const std::optional<Action> action = parse_action(word);
    if (!action)
      throw UsageError(
          "pipeline program: line {}, column {}: \"{}\" is not an action, expected stage, one of {} and "
          "microbatch, such as 2F0, with numbers up to {}",
          rank + 1, column, word, all_letters(), largest_number);
    if (program.shape.rank_of(action->stage) != rank)
      throw UsageError(
          "pipeline program: line {}, column {}: {}: stage {} belongs to rank {} of {}, not on {}", rank + 1,
          column, word, action->stage, program.shape.rank_of(action->stage), pp, rank);
    program.ranks[static_cast<std::size_t>(rank)].push_back(*action);
    last_stage = std::max(last_stage, action->stage);
    last_microbatch = std::max(last_microbatch, action->microbatch);
    at = end;
  }
  program.shape.virtual_stages = last_stage / pp + 1;
  program.shape.microbatches = last_microbatch + 1;
  return program;
}

bool has_split_backward(const Program& program) {
  for (const auto& rank : program.ranks)
    for (const Action& action : rank)
      if (action.kind == ActionKind::backward_weight) return true;
  return false;
}

}  // namespace foretoken

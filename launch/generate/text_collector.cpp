#include "launch/generate/text_collector.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "runtime/plural.h"

namespace foretoken {

namespace {

Transcript::Format format_of(const GenerateArguments& arguments) {
  if (arguments.json) return Transcript::Format::json;
  return arguments.echo ? Transcript::Format::prompt_and_text : Transcript::Format::text;
}

/// Tokens per second after the first round; the first round mostly computes the prompts.
std::optional<double> speed(std::int64_t tokens, double seconds) {
  return tokens > 0 ? std::optional(static_cast<double>(tokens) / seconds) : std::nullopt;
}

void report_drafts(const SpeculationStatistics& drafts) {
  if (drafts.rounds == 0) return;
  fmt::print(stderr,
             "speculate  {}, acceptance rate {:.3f}, mean acceptance length {:.2f}; {} without drafts\n",
             counted(drafts.rounds, "round"), drafts.acceptance_rate(), drafts.mean_acceptance_length(),
             counted(drafts.plain_rounds, "round"));
  const std::vector<double> shares = drafts.acceptance_by_depth();
  constexpr std::size_t in_a_line = 12;
  for (std::size_t i = 0; i < shares.size(); i += in_a_line)
    fmt::print(stderr, "{:<11}{:.3f}\n", i == 0 ? "by depth" : "",
               fmt::join(std::span(shares).subspan(i, std::min(in_a_line, shares.size() - i)), " "));
}

}  // namespace

TextCollector::TextCollector(const GenerateArguments& arguments, const std::vector<std::string>& prompts,
                             const Tokenizer& tokenizer)
    : arguments_(arguments), tokenizer_(tokenizer), transcript_(prompts, format_of(arguments)) {
  for (const std::string& prompt : prompts)
    texts_.push_back({.stream = TextStream(arguments.stops), .written = {.prompt = prompt}});
}

std::optional<std::size_t> TextCollector::add(std::size_t sequence, std::span<const std::int32_t> tokens) {
  Text& text = texts_[sequence];
  // Token by token, so that a stop text ends the text after the same token however many tokens a round adds.
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] == tokenizer_.identity().end_of_document) {
      text.written.stop_reason = StopReason::end_of_text;
      continue;
    }
    show(sequence, text.stream.push(tokenizer_.decode(tokens.subspan(i, 1))));
    if (!text.stream.stop()) continue;
    text.written.stop_reason = StopReason::stop_text;
    text.written.stop_text = *text.stream.stop();
    return i + 1;
  }
  return std::nullopt;
}

void TextCollector::end_round(const Generator& generator) {
  for (std::size_t i = 0; i < texts_.size(); ++i) {
    Text& text = texts_[i];
    WrittenText& written = text.written;
    const std::int64_t tokens = generator.new_tokens(i);
    if (text.first_tokens == 0) {
      text.first_tokens = tokens;
      written.seconds_to_first_token = seconds();
    }
    if (text.ended || !generator.finished(i)) continue;
    text.ended = true;
    written.tokens = tokens;
    written.prompt_tokens = std::ssize(generator.text(i)) - tokens;
    written.seconds = seconds();
    written.tokens_per_second =
        speed(tokens - text.first_tokens, written.seconds - written.seconds_to_first_token);
    if (written.stop_reason == StopReason::length && tokens < arguments_.max_tokens)
      written.stop_reason = StopReason::positions;
    if (generator.speculates()) written.drafts = generator.statistics(i);
    show(i, text.stream.finish());
    transcript_.end(i, written);
  }
}

void TextCollector::report(const Generator& generator) const {
  const double whole = seconds(), first = texts_.front().written.seconds_to_first_token;
  std::int64_t first_tokens = 0;
  for (std::size_t i = 0; i < texts_.size(); ++i) {
    first_tokens += texts_[i].first_tokens;
    if (!arguments_.json)
      fmt::print(stderr, "stopped    {}at {}\n", texts_.size() > 1 ? fmt::format("text {} ", i + 1) : "",
                 stop_in_words(texts_[i].written));
  }
  fmt::print(stderr, "generate   {} in {:.2f} s; first token after {:.3f} s",
             counted(generator.new_tokens(), "token"), whole, first);
  if (const auto rate = speed(generator.new_tokens() - first_tokens, whole - first))
    fmt::print(stderr, ", then {:.1f} tokens/s", *rate);
  fmt::print(stderr, "\n");
  if (generator.speculates()) report_drafts(generator.statistics());
}

void TextCollector::show(std::size_t sequence, const std::string& shown) {
  texts_[sequence].written.text += shown;
  transcript_.add(sequence, shown);
}

double TextCollector::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

}  // namespace foretoken

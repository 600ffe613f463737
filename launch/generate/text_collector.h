#pragma once
// Collects the texts of generate: shows them while they are written, and records when and why each text
// ended.

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/tokenizers/tokenizer.h"
#include "launch/generate/generate_arguments.h"
#include "launch/generate/text_stream.h"
#include "launch/generate/transcript.h"

namespace foretoken {

class TextCollector {
 public:
  /// Time counts from here on. The arguments and the tokenizer must outlive the collector.
  TextCollector(const GenerateArguments& arguments, const std::vector<std::string>& prompts,
                const Tokenizer& tokenizer);

  /// Has the signature of Generator::OnTokens.
  std::optional<std::size_t> add(std::size_t sequence, std::span<const std::int32_t> tokens);
  /// Ends the texts that are complete after this round.
  void end_round(const Generator& generator);
  /// Prints speed and acceptance to stderr and, except with --json, why each text ended.
  void report(const Generator& generator) const;

 private:
  struct Text {
    TextStream stream;
    WrittenText written;
    std::int64_t first_tokens = 0;  // tokens of the first round, which computes the prompts
    bool ended = false;
  };
  void show(std::size_t sequence, const std::string& shown);
  double seconds() const;

  const GenerateArguments& arguments_;
  const Tokenizer& tokenizer_;
  Transcript transcript_;
  std::vector<Text> texts_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace foretoken

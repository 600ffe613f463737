#pragma once
// Prints several texts to stdout, one after another: the first unfinished text as it arrives, each later text
// once all earlier ones have ended.

#include <string>
#include <vector>

#include "launch/generate/written_text.h"

namespace foretoken {

class Transcript {
 public:
  enum class Format {
    text,
    prompt_and_text,
    json,  // one line a text (json_line()), when the text has ended
  };
  Transcript(std::vector<std::string> prompts, Format format);

  /// Adds whole characters to a text.
  void add(std::size_t text, const std::string& shown);
  /// Ends a text, once.
  void end(std::size_t text, const WrittenText& written);

 private:
  void begin() const;
  void print(const std::string& shown) const;

  std::vector<std::string> prompts_;
  Format format_;
  std::vector<std::string> waiting_;  // by text: characters to print once the earlier texts have ended
  std::vector<bool> ended_;
  std::size_t current_ = 0;
  bool terminal_;  // a terminal gets control characters escaped; files and pipes get them unchanged
};

}  // namespace foretoken

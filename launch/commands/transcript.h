#pragma once
// Prints several texts to stdout, one after another: the first unfinished text as it arrives, each later one
// when its turn comes.

#include <string>
#include <string_view>
#include <vector>

#include "launch/commands/text_stream.h"

namespace foretoken {

class Transcript {
 public:
  Transcript(std::size_t texts, const std::vector<std::string>& stops);

  /// Adds bytes to a text. Returns false once a stop text has appeared in it.
  bool add(std::size_t text, std::string_view bytes);
  void end(std::size_t text);

 private:
  void begin() const;
  void show(std::size_t text, const std::string& shown);

  std::vector<TextStream> streams_;
  std::vector<std::string> waiting_;
  std::vector<bool> ended_;
  std::size_t current_ = 0;
  bool terminal_;  // a terminal gets control characters escaped; files and pipes get them unchanged
};

}  // namespace foretoken

#pragma once
// Several texts on stdout, one after another: one of them as it comes, those after it when their turn has
// come.

#include <string>
#include <string_view>
#include <vector>

#include "launch/text_stream.h"

namespace foretoken {

class Transcript {
 public:
  Transcript(std::size_t texts, const std::vector<std::string>& stops);

  /// False where a stop text has appeared.
  bool add(std::size_t text, std::string_view bytes);
  void end(std::size_t text);

 private:
  void begin() const;
  void show(std::size_t text, const std::string& shown);

  std::vector<TextStream> streams_;
  std::vector<std::string> waiting_;
  std::vector<bool> ended_;
  std::size_t current_ = 0;
  bool terminal_;  // the model's control characters are escaped on one; files and pipes get them as they are
};

}  // namespace foretoken

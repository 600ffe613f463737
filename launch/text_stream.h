#pragma once
// Text that is shown while it arrives, piece by piece: whole characters, and nothing from a stop text on.
// What is shown in all does not depend on how the text is cut into pieces.

#include <string>
#include <string_view>
#include <vector>

namespace foretoken {

class TextStream {
 public:
  /// The text ends before the stop text that is complete first; where several become complete with the same
  /// byte, before the longest of them.
  explicit TextStream(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// Takes the next bytes, which may end inside a character or a stop text, and returns what can be shown by
  /// now. Bytes that are no UTF-8 become U+FFFD.
  std::string push(std::string_view bytes);
  /// Whether a stop text has appeared; what comes after is dropped.
  bool stopped() const { return stopped_; }
  /// What was held back, at the text's end.
  std::string finish();

 private:
  std::size_t stop_begin() const;
  std::size_t held_back() const;
  std::string show(std::size_t count, bool final);

  std::vector<std::string> stops_;
  std::string pending_;
  bool stopped_ = false;
};

}  // namespace foretoken

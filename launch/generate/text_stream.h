#pragma once
// Text that is shown while it arrives in pieces: whole characters only, and no byte of a stop text or after
// it. The complete output does not depend on how the text is divided into pieces.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace foretoken {

class TextStream {
 public:
  /// The text ends before the stop text that is completed first. If several are completed by the same byte,
  /// it ends before the longest of them.
  explicit TextStream(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// Adds bytes, which may end inside a character or a stop text, and returns the text that can be shown now.
  /// Bytes that are not UTF-8 become U+FFFD.
  std::string push(std::string_view bytes);
  /// The stop text that has ended the text, if any; later text is dropped.
  const std::optional<std::string>& stop() const { return stop_; }
  /// Returns the text that was held back. Call it at the text's end.
  std::string finish();

 private:
  struct Found {
    std::size_t begin = 0;
    const std::string* text = nullptr;  // points into stops_
  };
  Found find_stop() const;
  std::size_t held_back() const;
  std::string show(std::size_t count, bool final);

  std::vector<std::string> stops_;
  std::string pending_;
  std::optional<std::string> stop_;
};

}  // namespace foretoken

#include "launch/commands/transcript.h"

#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "io/files/printable.h"
#include "launch/console/console.h"

namespace foretoken {

Transcript::Transcript(std::size_t texts, const std::vector<std::string>& stops)
    : streams_(texts, TextStream(stops)),
      waiting_(texts),
      ended_(texts),
      terminal_(isatty(STDOUT_FILENO) == 1) {
  begin();
}

bool Transcript::add(std::size_t text, std::string_view bytes) {
  show(text, streams_[text].push(bytes));
  return !streams_[text].stopped();
}

void Transcript::end(std::size_t text) {
  if (ended_[text]) return;
  show(text, streams_[text].finish());
  ended_[text] = true;
  while (current_ < ended_.size() && ended_[current_]) {
    print_text("\n");
    if (++current_ == ended_.size()) break;
    begin();
    show(current_, std::exchange(waiting_[current_], {}));
  }
}

void Transcript::begin() const {
  if (ended_.size() > 1) print_text(fmt::format("==> prompt {} <==\n", current_ + 1));
}

void Transcript::show(std::size_t text, const std::string& shown) {
  if (text != current_) {
    waiting_[text] += shown;
    return;
  }
  print_text(terminal_ ? printable_lines(shown) : shown);
}

}  // namespace foretoken

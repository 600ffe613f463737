#include "launch/transcript.h"

#include <cstdio>
#include <utility>

#include <fmt/format.h>

namespace foretoken {

Transcript::Transcript(std::size_t texts, const std::vector<std::string>& stops)
    : streams_(texts, TextStream(stops)), waiting_(texts), ended_(texts) {
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
    fmt::print("\n");
    if (++current_ == ended_.size()) break;
    begin();
    show(current_, std::exchange(waiting_[current_], {}));
  }
  std::fflush(stdout);
}

void Transcript::begin() const {
  if (ended_.size() > 1) fmt::print("==> prompt {} <==\n", current_ + 1);
}

void Transcript::show(std::size_t text, const std::string& shown) {
  if (text != current_) {
    waiting_[text] += shown;
    return;
  }
  fmt::print("{}", shown);
  std::fflush(stdout);
}

}  // namespace foretoken

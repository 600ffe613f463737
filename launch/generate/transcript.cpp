#include "launch/generate/transcript.h"

#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "io/files/printable.h"
#include "launch/console/console.h"

namespace foretoken {

Transcript::Transcript(std::vector<std::string> prompts, Format format)
    : prompts_(std::move(prompts)),
      format_(format),
      waiting_(prompts_.size()),
      ended_(prompts_.size()),
      terminal_(isatty(STDOUT_FILENO) == 1) {
  begin();
}

void Transcript::add(std::size_t text, const std::string& shown) {
  if (format_ == Format::json) return;
  if (text == current_)
    print(shown);
  else
    waiting_[text] += shown;
}

void Transcript::end(std::size_t text, const WrittenText& written) {
  const std::string last = format_ == Format::json ? json_line(written) : "\n";
  if (text != current_) {
    waiting_[text] += last;
    ended_[text] = true;
    return;
  }
  print(last);
  ended_[text] = true;
  while (++current_ < ended_.size()) {
    begin();
    print(std::exchange(waiting_[current_], {}));
    if (!ended_[current_]) break;
  }
}

void Transcript::begin() const {
  if (format_ == Format::json) return;
  if (prompts_.size() > 1) print_text(fmt::format("==> prompt {} <==\n", current_ + 1));
  if (format_ == Format::prompt_and_text) print(prompts_[current_]);
}

void Transcript::print(const std::string& shown) const {
  print_text(terminal_ ? printable_lines(shown) : shown);
}

}  // namespace foretoken

#pragma once
// What a person reads while a run goes on: lines on stdout, warnings on stderr, both mirrored to log.txt.
// Rank 0 speaks; the console of another rank is silent. May be called from any thread.

#include <memory>
#include <string>

namespace foretoken {

class Console {
 public:
  /// `wait`: a line returns once stdout has accepted it, however slow its reader is. `queue`: threads of
  /// their own write terminal and log, so that no line ever waits; lines are dropped, and counted, where a
  /// reader or a disk does not keep up.
  enum class Delivery { wait, queue };

  explicit Console(bool speaks, Delivery delivery = Delivery::wait);
  /// Writes what is queued, for about a second without progress at most.
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  /// From here on every line goes to the end of this file too. A DataError where it cannot be opened; where
  /// it cannot be written later (a full disk) one warning says so.
  void open_log(const std::string& path);

  /// What is printed holds no control character but line ends and tabs (io/printable.h).
  void line(const std::string& text);
  /// "warning: ..."
  void warn(const std::string& text);
  /// A line of any rank, also of one that is silent otherwise; such a rank's goes to stdout alone.
  void line_of_any_rank(const std::string& text);

  /// Waits for what is queued, as the destructor does.
  void flush();
  /// A DataError where stdout did not accept all lines: what a command prints is its result. A training run,
  /// whose lines are in log.txt, does not ask.
  void require_written();

 private:
  class Sinks;
  bool speaks_;
  std::unique_ptr<Sinks> sinks_;
};

/// Writes to stdout at once. A DataError where it does not accept the text: "standard output: ...".
void print_text(std::string_view text);

}  // namespace foretoken

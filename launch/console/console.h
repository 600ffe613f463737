#pragma once
// Console output of a run: lines on stdout, warnings on stderr, both copied to log.txt. Rank 0 prints; the
// consoles of other ranks are silent. Callable from any thread.

#include <memory>
#include <string>

namespace foretoken {

class Console {
 public:
  /// `wait`: a call returns once stdout has accepted the line, however slow its reader is. `queue`: separate
  /// threads write terminal and log, so no call waits; lines are dropped, and counted, if a reader or a disk
  /// is too slow.
  enum class Delivery { wait, queue };

  explicit Console(bool speaks, Delivery delivery = Delivery::wait);
  /// Writes queued lines; gives up after about a second without progress.
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  /// From now on also appends every line to this file, first those printed before. Throws a DataError if it
  /// cannot be opened; prints one warning if it cannot be written later (a full disk).
  void open_log(const std::string& path);

  /// Control characters except line ends and tabs are escaped (io/files/printable.h).
  void line(const std::string& text);
  /// Prints "warning: ...".
  void warn(const std::string& text);
  /// Prints a line even if this console is silent; a silent console's line goes to stdout only.
  void line_of_any_rank(const std::string& text);

  /// Waits for queued lines, as the destructor does.
  void flush();
  /// Throws a DataError if stdout did not accept all lines. For commands whose output is their result; a
  /// training run, whose lines are in log.txt, does not call it.
  void require_written();

 private:
  class Sinks;
  bool speaks_;
  std::unique_ptr<Sinks> sinks_;
};

/// Writes to stdout at once. Throws a DataError "standard output: ..." if it does not accept the text.
void print_text(std::string_view text);

}  // namespace foretoken

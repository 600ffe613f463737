#pragma once
// Console output of a run: lines on stdout, warnings on stderr, both copied to log.txt. Rank 0 prints; the
// consoles of other ranks are silent. Callable from any thread.

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace foretoken {

class Console {
 public:
  /// `wait`: a call returns once stdout has accepted the line, even if its reader is slow. `queue`: separate
  /// threads write to the terminal and to the log, so no call waits. If a reader or a disk is too slow, lines
  /// are dropped and counted.
  enum class Delivery { wait, queue };

  explicit Console(bool speaks, Delivery delivery = Delivery::wait);
  /// Writes queued lines; gives up after about a second without progress.
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  /// From now on also appends every line to this file, first those printed before. Throws a DataError if the
  /// file cannot be opened. Prints one warning if the file cannot be written later (a full disk).
  void open_log(const std::string& path);

  /// Control characters except line ends and tabs are escaped (io/files/printable.h).
  void line(const std::string& text);
  /// The same with another form of the line for the terminal that shows stdout. The log, a file or a pipe
  /// gets `text`.
  void line(const std::string& text, const std::string& on_terminal);
  /// Prints "warning: ...".
  void warn(const std::string& text);
  /// Prints a line even if this console is silent; a silent console's line goes to stdout only.
  void line_of_any_rank(const std::string& text);

  /// Width of the terminal that shows stdout; empty if stdout is not a terminal.
  std::optional<int> columns() const;
  /// Shows one line below all others, for progress: it is cleared before other lines and drawn again after
  /// them. The text must be narrower than columns(). An empty text removes it. Only for a terminal: no effect
  /// elsewhere, and nothing reaches the log. A slow terminal misses some updates.
  void status(const std::string& text);

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

/// Writes to stdout and flushes it. Throws a DataError "standard output: ..." if it does not accept the text.
void print_text(std::string_view text);

}  // namespace foretoken

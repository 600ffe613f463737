#pragma once
// Lines that a separate thread writes, so that the thread that adds a line never waits for a terminal, a
// pipe or a disk.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace foretoken {

class LineQueue {
 public:
  struct Line {
    int target = 0;    // passed to the writer: a file descriptor
    std::string text;  // with its newline
  };
  /// Writes from `text[begin]` on for a fraction of a second and returns the number of bytes written, or -1
  /// if the line must be dropped because of an error. The function is called again for the remaining bytes.
  using Write = std::function<std::int64_t(const Line& line, std::size_t begin)>;

  struct Limits {
    std::size_t lines = 4096;
    std::size_t bytes = std::size_t{1} << 20;
    /// flush() and the destructor give up after this time without progress, and after ten times this time in
    /// any case.
    std::chrono::milliseconds patience{1000};
  };
  /// Lines that do not fit are dropped. Once half of the queue is free, a line "(12 lines dropped: NAME did
  /// not accept them)" replaces them.
  LineQueue(std::string name, Write write, const Limits& limits);
  LineQueue(std::string name, Write write);
  /// Calls flush(); remaining lines are lost.
  ~LineQueue();
  LineQueue(const LineQueue&) = delete;
  LineQueue& operator=(const LineQueue&) = delete;

  /// Callable from any thread; never waits for a write.
  void add(Line line);
  /// Adds the line only if the queue is empty: text that is soon outdated must not fill the queue.
  void add_if_idle(Line line);
  /// Waits until all lines are written, within Limits::patience.
  void flush();

 private:
  void run();
  void append(Line line);
  void report_dropped();
  void wait_for_progress(std::unique_lock<std::mutex>& lock);

  std::string name_;
  Write write_;
  Limits limits_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Line> lines_;  // the first one is being written
  std::size_t bytes_ = 0;
  std::int64_t dropped_ = 0;
  int dropped_target_ = 0;
  std::uint64_t progress_ = 0;  // bytes written and lines dropped by the writer
  bool closing_ = false;
  bool abandoned_ = false;
  std::thread thread_;
};

}  // namespace foretoken

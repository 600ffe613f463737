#pragma once
// What ran when: spans of time in lanes, such as the compute stream and each queue of communications. Off
// unless a stream is given a timeline. On a GPU the ends of a span are events in the stream that it is in, so
// what is recorded is when the GPU did it, not when the host asked for it.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/stream.h"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace foretoken {

struct TimelineSpan {
  /// A receive lasts from the moment that it may begin until the message is there: it may wait for long.
  enum class Kind { compute, communication, receive };

  Kind kind = Kind::compute;
  std::string lane;
  std::string name;
  double begin = 0;  // seconds since the timeline's start
  double end = 0;
};

class Timeline {
 public:
  /// Times count from here, in the order of the compute stream.
  explicit Timeline(Stream& compute);
  ~Timeline();
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  /// A span of the compute stream from here to end(); returns its number.
  std::size_t begin(std::string name) { return begin({.lane = "compute", .name = std::move(name)}, nullptr); }
  /// The same in another queue of the GPU.
  std::size_t begin(TimelineSpan span, CUstream_st* queue);
  void end(std::size_t span);

  /// All spans that have ended, in the order they began; waits for those that the GPU has not reached.
  std::vector<TimelineSpan> spans();

 private:
  struct Mark;
  struct Open;

  Mark mark(CUstream_st* queue) const;
  double seconds_since_start(const Mark& mark) const;

  Stream& compute_;
  std::unique_ptr<Mark> start_;
  std::vector<Open> open_;
};

/// A span of the compute stream until the scope ends, where the stream has a timeline.
class TimelineScope {
 public:
  TimelineScope(Stream& stream, const char* name) : timeline_(stream.timeline()) {
    if (timeline_) span_ = timeline_->begin(name);
  }
  ~TimelineScope() {
    if (timeline_) timeline_->end(span_);
  }
  TimelineScope(const TimelineScope&) = delete;
  TimelineScope& operator=(const TimelineScope&) = delete;

 private:
  Timeline* timeline_;
  std::size_t span_ = 0;
};

}  // namespace foretoken

#pragma once
// Records spans of time in lanes, such as the compute stream and each communication queue. Off unless a
// stream has a timeline. On a GPU, events in the span's stream mark its start and end, so the times are those
// of execution on the GPU, not of the host's launches.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/stream.h"
#include "runtime/timing/nvtx.h"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace foretoken {

struct TimelineSpan {
  /// A receive span starts when its buffer is free and ends when the data has arrived, so it includes waiting
  /// for the sender.
  enum class Kind { compute, communication, receive };

  Kind kind = Kind::compute;
  std::string lane;
  std::string name;
  double begin = 0;  // seconds since the timeline's start
  double end = 0;
};

class Timeline {
 public:
  /// Time 0 is this call's position in the compute stream.
  explicit Timeline(Stream& compute);
  ~Timeline();
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  /// Starts a span of the compute stream, which ends at end(); returns its number.
  std::size_t begin(std::string name) { return begin({.lane = "compute", .name = std::move(name)}, nullptr); }
  /// Starts a span in another queue of the GPU.
  std::size_t begin(TimelineSpan span, CUstream_st* queue);
  void end(std::size_t span);

  /// All ended spans, in the order of the calls of begin(), which can differ from the order of their times if
  /// they run in several queues. Waits for spans that the GPU has not completed.
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

/// Records a span of the compute stream until the scope ends, if the stream has a timeline; also an NVTX
/// range of that name.
class TimelineScope {
 public:
  TimelineScope(Stream& stream, const char* name) : range_(stream, name), timeline_(stream.timeline()) {
    if (timeline_) span_ = timeline_->begin(name);
  }
  ~TimelineScope() {
    if (timeline_) timeline_->end(span_);
  }
  TimelineScope(const TimelineScope&) = delete;
  TimelineScope& operator=(const TimelineScope&) = delete;

 private:
  NvtxRange range_;
  Timeline* timeline_;
  std::size_t span_ = 0;
};

}  // namespace foretoken

#include "runtime/timing/timeline.h"

#include <chrono>
#include <optional>

#if FORETOKEN_WITH_CUDA
#include "runtime/cuda/context.h"
#endif

namespace foretoken {

struct Timeline::Mark {
  std::chrono::steady_clock::time_point host;
#if FORETOKEN_WITH_CUDA
  cuda::EventHandle event;
#endif
};

struct Timeline::Open {
  TimelineSpan span;
  CUstream_st* queue;
  Mark begin;
  std::optional<Mark> end;
};

Timeline::Timeline(Stream& compute) : compute_(compute), start_(std::make_unique<Mark>(mark(nullptr))) {}
Timeline::~Timeline() = default;

Timeline::Mark Timeline::mark([[maybe_unused]] CUstream_st* queue) const {
  Mark mark{.host = std::chrono::steady_clock::now()};
#if FORETOKEN_WITH_CUDA
  if (compute_.device() == DeviceKind::cuda) {
    mark.event = cuda::make_event(cudaEventDefault);
    cuda::check(cudaEventRecord(mark.event.get(), queue ? queue : compute_.cuda().stream()), "timeline");
  }
#endif
  return mark;
}

double Timeline::seconds_since_start(const Mark& mark) const {
#if FORETOKEN_WITH_CUDA
  if (compute_.device() == DeviceKind::cuda) {
    float milliseconds = 0;
    cuda::check(cudaEventSynchronize(mark.event.get()), "timeline");
    cuda::check(cudaEventElapsedTime(&milliseconds, start_->event.get(), mark.event.get()), "timeline");
    return milliseconds / 1e3;
  }
#endif
  return std::chrono::duration<double>(mark.host - start_->host).count();
}

std::size_t Timeline::begin(TimelineSpan span, CUstream_st* queue) {
  open_.push_back({.span = std::move(span), .queue = queue, .begin = mark(queue), .end = {}});
  return open_.size() - 1;
}

void Timeline::end(std::size_t span) {
  open_[span].end = mark(open_[span].queue);
}

std::vector<TimelineSpan> Timeline::spans() {
  std::vector<TimelineSpan> spans;
  for (const Open& open : open_) {
    if (!open.end) continue;
    TimelineSpan& span = spans.emplace_back(open.span);
    span.begin = seconds_since_start(open.begin);
    span.end = seconds_since_start(*open.end);
  }
  return spans;
}

}  // namespace foretoken

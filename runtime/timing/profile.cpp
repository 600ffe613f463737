#include "runtime/timing/profile.h"

#include <vector>

#if FORETOKEN_WITH_CUDA
#include "runtime/cuda/context.h"
#endif

namespace foretoken {

#if FORETOKEN_WITH_CUDA

struct Profile::Marks {
  struct Span {
    const char* name;
    cuda::EventHandle begin, end;
  };
  cuda::EventHandle begin;
  std::vector<Span> spans;
};

void Profile::begin(Stream& stream) {
  if (depth_++ > 0) return;
  if (stream.device() == DeviceKind::cuda) {
    marks_->begin = cuda::make_event(cudaEventDefault);
    cuda::check(cudaEventRecord(marks_->begin.get(), stream.cuda().stream()), "profile");
  }
  start_ = Clock::now();
}

void Profile::end(Stream& stream, const char* name) {
  if (--depth_ > 0) return;
  if (stream.device() == DeviceKind::cpu)
    return add(name, std::chrono::duration<double>(Clock::now() - start_).count());
  cuda::EventHandle end = cuda::make_event(cudaEventDefault);
  cuda::check(cudaEventRecord(end.get(), stream.cuda().stream()), "profile");
  marks_->spans.push_back({name, std::move(marks_->begin), std::move(end)});
}

const std::map<std::string, Profile::Entry>& Profile::entries() {
  for (const Marks::Span& span : marks_->spans) {
    float milliseconds = 0;
    cuda::check(cudaEventSynchronize(span.end.get()), "profile");
    cuda::check(cudaEventElapsedTime(&milliseconds, span.begin.get(), span.end.get()), "profile");
    add(span.name, milliseconds / 1e3);
  }
  marks_->spans.clear();
  return entries_;
}

#else

struct Profile::Marks {};

void Profile::begin(Stream&) {
  if (depth_++ == 0) start_ = Clock::now();
}

void Profile::end(Stream&, const char* name) {
  if (--depth_ == 0) add(name, std::chrono::duration<double>(Clock::now() - start_).count());
}

const std::map<std::string, Profile::Entry>& Profile::entries() {
  return entries_;
}

#endif

Profile::Profile() : marks_(std::make_unique<Marks>()) {}
Profile::~Profile() = default;

void Profile::add(const char* name, double seconds) {
  Entry& entry = entries_[name];
  ++entry.calls;
  entry.seconds += seconds;
}

}  // namespace foretoken

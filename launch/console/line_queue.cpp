#include "launch/console/line_queue.h"

#include <utility>

#include <fmt/format.h>

namespace foretoken {

LineQueue::LineQueue(std::string name, Write write)
    : LineQueue(std::move(name), std::move(write), Limits{}) {}

LineQueue::LineQueue(std::string name, Write write, const Limits& limits)
    : name_(std::move(name)), write_(std::move(write)), limits_(limits) {
  thread_ = std::thread([this] { run(); });
}

LineQueue::~LineQueue() {
  {
    std::unique_lock lock(mutex_);
    closing_ = true;
    changed_.notify_all();
    wait_for_progress(lock);
    abandoned_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void LineQueue::add(Line line) {
  const std::lock_guard lock(mutex_);
  if (dropped_ == 0 && lines_.size() < limits_.lines && bytes_ + line.text.size() <= limits_.bytes)
    return append(std::move(line));
  ++dropped_;
  dropped_target_ = line.target;
}

void LineQueue::add_if_idle(Line line) {
  const std::lock_guard lock(mutex_);
  if (lines_.empty()) append(std::move(line));
}

void LineQueue::append(Line line) {
  bytes_ += line.text.size();
  lines_.push_back(std::move(line));
  changed_.notify_all();
}

void LineQueue::report_dropped() {
  if (dropped_ == 0 || lines_.size() > limits_.lines / 2 || bytes_ > limits_.bytes / 2) return;
  append({dropped_target_, fmt::format("({} line{} dropped: {} did not accept {})\n", dropped_,
                                       dropped_ == 1 ? "" : "s", name_, dropped_ == 1 ? "it" : "them")});
  dropped_ = 0;
}

void LineQueue::flush() {
  std::unique_lock lock(mutex_);
  wait_for_progress(lock);
}

void LineQueue::wait_for_progress(std::unique_lock<std::mutex>& lock) {
  const auto end = std::chrono::steady_clock::now() + 10 * limits_.patience;
  while (!lines_.empty() && std::chrono::steady_clock::now() < end) {
    const std::uint64_t before = progress_;
    if (!changed_.wait_for(lock, limits_.patience, [&] { return lines_.empty() || progress_ != before; }))
      return;
  }
}

void LineQueue::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return !lines_.empty() || closing_; });
    if (lines_.empty()) return;
    const Line& line = lines_.front();  // stays valid: add() only appends
    std::size_t done = 0;
    while (done < line.text.size()) {
      lock.unlock();
      const std::int64_t written = write_(line, done);
      lock.lock();
      if (abandoned_) return;
      done = written < 0 ? line.text.size() : done + static_cast<std::size_t>(written);
      if (written == 0) continue;
      ++progress_;
      changed_.notify_all();
    }
    bytes_ -= line.text.size();
    lines_.pop_front();
    report_dropped();
    changed_.notify_all();
  }
}

}  // namespace foretoken

#include "io/checkpoint/save_thread.h"

#include <utility>

namespace foretoken {

SaveThread::~SaveThread() {
  if (thread_.joinable()) thread_.join();
}

void SaveThread::start(std::function<void()> body, Report report) {
  report_ = std::move(report);
  running_ = true;
  thread_ = std::thread([this, body = std::move(body)] {
    body();
    const std::lock_guard lock(mutex_);
    running_ = false;
    ended_.notify_all();
  });
}

void SaveThread::join(std::chrono::milliseconds interval) {
  using Clock = std::chrono::steady_clock;
  if (!thread_.joinable()) return;
  const Clock::time_point start_time = Clock::now();
  std::unique_lock lock(mutex_);
  while (!ended_.wait_for(lock, interval, [&] { return !running_; }))
    report_(waiting_for_, std::chrono::duration<double>(Clock::now() - start_time).count());
  lock.unlock();
  thread_.join();
}

void SaveThread::waits_for(std::string what) {
  const std::lock_guard lock(mutex_);
  waiting_for_ = std::move(what);
}

void SaveThread::fail(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  error_ = std::move(error);
}

void SaveThread::check() {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace foretoken

#pragma once
// The thread that writes a save beside training.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace foretoken {

/// Runs one save at a time, and keeps what the save waits for and how it failed until another thread asks.
class SaveThread {
 public:
  SaveThread() = default;
  ~SaveThread();
  SaveThread(const SaveThread&) = delete;
  SaveThread& operator=(const SaveThread&) = delete;

  /// Called while join() waits, with what the save waits for and the seconds since join() was called.
  using Report = std::function<void(const std::string& waiting_for, double seconds)>;
  /// Runs `body`, which must not throw, on the thread. join() must have returned since the last start().
  void start(std::function<void()> body, Report report);
  /// Whether the body runs.
  bool busy() const { return running_; }
  /// Waits for the body's end and calls its report at every interval. One thread at a time may start and
  /// join.
  void join(std::chrono::milliseconds interval);

  /// Sets what join() reports. Callable from the body.
  void waits_for(std::string what);
  /// Sets the failure that check() throws. Callable from the body.
  void fail(std::exception_ptr error);
  /// Throws the failure, once, without waiting.
  void check();

 private:
  std::thread thread_;
  Report report_;
  std::atomic<bool> running_ = false;
  std::mutex mutex_;
  std::condition_variable ended_;  // signals that running_ became false
  std::exception_ptr error_;       // not yet thrown; guarded by mutex_
  std::string waiting_for_;        // "rank 3 to write its shard"; guarded by mutex_
};

}  // namespace foretoken

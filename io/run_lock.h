#pragma once
// One job at a time in a run's folder, on any file system that creates files exclusively; no flock is needed.
//
// The lock is the file run.lock. It names its holder: host, process id, start of the process, time of taking.
// A thread of the holder renews the file's time stamp every `heartbeat`. A lock is stale, and taken over,
// where its holder was a process of this host that has ended, or where the holder is elsewhere and the last
// heartbeat is older than `expiry`. Ages are differences of the file system's own time stamps, so clocks of
// hosts may differ.
//
// Of several jobs that find a stale lock exactly one wins: the right to replace lock L is itself a lock, the
// file "run.lock.<id of L>", which only one of them can create.

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace foretoken {

struct RunLockOptions {
  std::chrono::milliseconds heartbeat = std::chrono::seconds(5);
  std::chrono::milliseconds expiry = std::chrono::seconds(60);
  /// Receives one line for people: a takeover, or that a silent holder's expiry is awaited.
  std::function<void(const std::string&)> say;
};

class RunLock {
 public:
  /// Takes the lock of a folder that exists. A UsageError that names host, process and start of a holder that
  /// lives, at once. Where the holder is on another host and has been silent for three heartbeats, waits
  /// until it beats again or has expired. A DataError where the folder cannot be written.
  explicit RunLock(const std::filesystem::path& folder, RunLockOptions options = {});
  /// Releases the lock.
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  /// A DataError that names the new holder where another job has taken the lock over, because this one was
  /// silent for too long: nothing may be written then. Looks at the file. From any thread.
  void require_held() const;

 private:
  void beat();

  std::filesystem::path folder_;
  std::filesystem::path file_;
  RunLockOptions options_;
  std::string text_;  // the lock's content while this object holds it
  std::thread thread_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool ends_ = false;  // guarded by mutex_
};

}  // namespace foretoken
